//! What the API server makes of our CRDs beyond today's objects: of twelve pipelines, and of everything that a status can hold.

use std::fs;

use anyhow::{Context, Result, ensure};
use framewright_e2e::with_namespace;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::Value;

use crate::{cluster, root, twelve_pipelines};

/// What the rules of a CRD may cost is limited, and each pipeline brings rules.
#[tokio::test(flavor = "multi_thread")]
async fn the_crd_with_twelve_pipelines_is_accepted() -> Result<()> {
    let mut crd = twelve_pipelines::crd();
    crd.spec.group = "twelve.framewright.dev".to_owned();
    crd.metadata.name = Some(format!("{}.{}", crd.spec.names.plural, crd.spec.group));
    let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    let text = serde_json::to_string(&crd)?;
    cluster()
        .await?
        .kubectl_with_input(&create, &text)
        .await
        .map(drop)
}

/// The API server drops what a schema does not have.
#[tokio::test(flavor = "multi_thread")]
async fn the_kept_objects_of_version_0_1_are_stored_whole() -> Result<()> {
    let cluster = cluster().await?;
    with_namespace(cluster, "kept", async |namespace: &str| {
        let client = cluster.client().await?;
        let mut count = 0;
        for entry in fs::read_dir(root().join("crds/tests/v1alpha1"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "yaml") {
                continue;
            }
            let object: Value = serde_saphyr::from_str(&fs::read_to_string(&path)?)?;
            let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            let kind = GroupVersionKind::gvk("framewright.dev", "v1alpha1", &text(&object["kind"]));
            let resource = ApiResource::from_gvk(&kind);
            let objects: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace, &resource);
            let name = text(&object["metadata"]["name"]);
            let mut kept = DynamicObject::new(&name, &resource).data(object.clone());
            let members = kept.data.as_object_mut().context("no object")?;
            members.retain(|member, _| member == "spec" || member == "status");
            let created = objects.create(&PostParams::default(), &kept).await?;
            kept.metadata = created.metadata;
            let stored = objects
                .replace_status(&name, &PostParams::default(), &kept)
                .await?;
            for part in ["spec", "status"] {
                let (stored, kept) = (&stored.data[part], &object[part]);
                ensure!(stored == kept, "{name}: {part} became {stored}");
            }
            count += 1;
        }
        ensure!(count == 3, "there are {count} objects");
        Ok(())
    })
    .await
}
