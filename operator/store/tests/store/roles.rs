//! Artifacts lie under a role, so that those of one role can be deleted alone.

use anyhow::Result;
use framewright_crds::names::ArtifactRole;
use framewright_store::key::ArtifactKey;

use crate::fixture::{Store, content, key_of, owner};

fn in_role(key: &ArtifactKey, role: ArtifactRole) -> Result<ArtifactKey> {
    Ok(ArtifactKey::new(key.owner().clone(), role, key.sha256())?)
}

#[tokio::test]
async fn artifacts_of_one_role_are_deleted_alone_and_those_of_an_owner_together() -> Result<()> {
    let store = Store::new().await?;
    let client = store.client()?;
    let (first, second) = (content(10), content(20));
    for bytes in [&first, &second] {
        for role in ArtifactRole::ALL {
            let key = in_role(&key_of("a", bytes)?, role)?;
            assert_eq!(store.put(&key, bytes.clone()).await?.status(), 201);
        }
    }
    let other = in_role(&key_of("b", &first)?, ArtifactRole::Checkpoint)?;
    assert_eq!(store.put(&other, first.clone()).await?.status(), 201);
    let use_of_a = &client.owners().await?[0];
    assert_eq!((use_of_a.artifacts, use_of_a.bytes), (10, 150));

    let (a, checkpoint) = (owner("a")?, ArtifactRole::Checkpoint);
    assert_eq!(client.delete_role(&a, checkpoint).await?, 2);
    for role in ArtifactRole::ALL {
        let is_there = client.stat(&in_role(&key_of("a", &first)?, role)?).await?;
        let expected = (role != ArtifactRole::Checkpoint).then_some(10);
        assert_eq!(is_there, expected, "{role}");
    }
    assert_eq!(client.stat(&other).await?, Some(10));
    assert_eq!(client.delete_role(&a, checkpoint).await?, 0);

    assert_eq!(client.delete(&a).await?, 8);
    assert_eq!(client.stat(&other).await?, Some(10));
    assert_eq!(store.files()?.len(), 1);
    store.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_file_is_an_artifact_only_in_the_role_that_it_was_uploaded_in() -> Result<()> {
    let store = Store::new().await?;
    let bytes = content(10);
    let key = key_of("a", &bytes)?;
    assert_eq!(store.put(&key, bytes.clone()).await?.status(), 201);
    let output = in_role(&key, ArtifactRole::Output)?;
    assert_eq!(store.get(&output).await?.status(), 404);
    assert_eq!(store.get(&key).await?.bytes().await?, bytes);
    store.stop().await?;
    Ok(())
}
