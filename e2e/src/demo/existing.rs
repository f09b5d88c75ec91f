//! The demo on a cluster that is there already: what must be true of it and of the registry before anything is made there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde::Deserialize;

use super::{Hands, NAMESPACE, SYSTEM};
use crate::command::output;
use crate::images::{self, Built};
use crate::progress::Progress;

const PATIENCE: Duration = Duration::from_secs(60);
/// On a release of the demo's own.
pub(super) const LABEL: &str = "framewright.dev/demo=yes";

/// Where images are pushed, and pulled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// As in an image's name: host, port, and perhaps a path.
    pub name: String,
    /// Whether it speaks plain HTTP.
    pub is_plain: bool,
}

impl Registry {
    /// Understands `registry.example.com`, `ghcr.io/somebody`, and `http://10.0.0.5:5000` for one without TLS.
    ///
    /// # Errors
    /// If that cannot be the beginning of an image's name.
    pub fn parse(text: &str) -> Result<Registry> {
        let plain = text.strip_prefix("http://");
        let name = plain.or(text.strip_prefix("https://")).unwrap_or(text);
        let name = name.trim_end_matches('/');
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._:/[]".contains(letter);
        let host = name.split('/').next().unwrap_or_default();
        let is_host = host.contains(['.', ':']) || host == "localhost";
        ensure!(
            is_host && name.chars().all(allowed) && !name.contains("//"),
            "REGISTRY is {text:?}; say where the images are pushed, such as REGISTRY=registry.example.com, \
             REGISTRY=ghcr.io/somebody, or REGISTRY=http://10.0.0.5:5000 for a registry without TLS"
        );
        Ok(Registry {
            name: name.to_owned(),
            is_plain: plain.is_some(),
        })
    }

    /// The chart's settings for images from here.
    fn settings(&self, operator: Option<&str>, worker: Option<&str>) -> Vec<String> {
        let mut settings = vec![
            format!("image.registry={}", self.name),
            "image.tag=dev".into(),
        ];
        settings.extend(operator.map(|digest| format!("image.digest={digest}")));
        settings.extend(worker.map(|digest| format!("workerImage.digest={digest}")));
        settings
    }
}

/// Looks whether the demo could be installed, and changes nothing but what a killed run of it has left.
///
/// # Errors
/// No context, no answer, another Framewright, or what the chart says is missing, such as a StorageClass.
pub(super) async fn examine(hands: &Hands, registry: &Registry, progress: &Progress) -> Result<()> {
    let mut client = hands.program(&hands.kubectl);
    output(client.args(["version", "--client"]), PATIENCE)
        .await
        .context("CLUSTER=existing needs kubectl on the PATH")?;
    let mut context = hands.program(&hands.kubectl);
    context.args(["config", "current-context"]);
    let context = output(&mut context, PATIENCE).await.map_err(because(
        "CLUSTER=existing uses the current kubeconfig context: choose one with `kubectl config use-context`, or name a file in KUBECONFIG",
    ))?;
    let context = context.trim();
    let mut version = hands.program(&hands.kubectl);
    version.args(["version", "--request-timeout=15s"]);
    output(&mut version, PATIENCE).await.map_err(because(&format!(
        "the API server of the current kubeconfig context, {context}, does not answer as it should"
    )))?;
    progress.say(&format!("this uses the kubeconfig context {context}"));
    let own = release(hands, &["--selector", LABEL]).await?;
    if own.is_none() && release(hands, &[]).await?.is_some() {
        bail!(
            "the cluster of context {context} has a Framewright of somebody's in namespace {SYSTEM}, which the demo would replace: \
             use that one (kubectl framewright submit manifests/examples/demo.yaml), or another cluster"
        );
    }
    if own.is_some_and(|release| release.status.starts_with("pending")) {
        let mut uninstall = hands.program(&hands.helm);
        uninstall.args(["uninstall", "framewright", "--namespace", SYSTEM, "--wait"]);
        output(&mut uninstall, 3 * PATIENCE)
            .await
            .context("remove what a killed run has left")?;
        progress.say("removed what a killed run had left");
    }
    refuse_anothers_namespace(hands, context).await?;
    let mut helm = hands.helm(&registry.settings(None, None));
    helm.arg("--dry-run=server");
    output(&mut helm, PATIENCE).await.map_err(because(&format!(
        "the chart cannot be installed on the cluster of context {context}"
    )))?;
    Ok(())
}

/// The demo removes its namespace as a whole, so it uses none that was there before it.
async fn refuse_anothers_namespace(hands: &Hands, context: &str) -> Result<()> {
    let all = ["get", "namespaces", "--output", "name", "--field-selector"];
    let this = format!("metadata.name={NAMESPACE}");
    let names = async |selector: &[&str]| {
        let mut get = hands.program(&hands.kubectl);
        get.args(all).arg(&this).args(selector);
        output(&mut get, PATIENCE)
            .await
            .context("look for the demo's namespace")
    };
    if !names(&[]).await?.trim().is_empty()
        && names(&["--selector", LABEL]).await?.trim().is_empty()
    {
        bail!(
            "the cluster of context {context} has a namespace {NAMESPACE} of somebody's, which the demo would use and later delete: \
             use another cluster, or, if it is a demo's of long ago, kubectl label namespace {NAMESPACE} {LABEL}"
        );
    }
    Ok(())
}

/// Pushes the images; the chart's settings for exactly these.
///
/// # Errors
/// With what the registry said, and the ways out.
pub(super) async fn push(
    built: &[Built],
    registry: &Registry,
    progress: &Progress,
) -> Result<Vec<String>> {
    let mut digests = Vec::new();
    for image in built {
        let name = image.name.replacen("docker.io", &registry.name, 1);
        let host = registry.name.split('/').next().unwrap_or_default();
        let ways_out = format!(
            "the registry did not take {name} (if it wants a login: `buildah login {host}`; if it has no TLS: REGISTRY=http://{})",
            registry.name
        );
        let digest = images::push(image, &name, registry.is_plain)
            .await
            .map_err(because(&ways_out))?;
        progress.say(&format!("{name} is pushed"));
        digests.push(digest);
    }
    let digest = |index: usize| digests.get(index).map(String::as_str);
    let mut settings = registry.settings(digest(0), digest(1));
    settings.push("store.persistence.size=5Gi".to_owned());
    Ok(settings)
}

/// What a person types to remove all of it again.
pub(super) fn removal(helm: &Path, namespace: &str) -> String {
    format!(
        "{} uninstall framewright --namespace {SYSTEM} && kubectl delete namespace {namespace} {SYSTEM} && kubectl delete crd aijobs.framewright.dev modelpools.framewright.dev",
        helm.display()
    )
}

/// How helm marks the release as the demo's own.
pub(super) const MARK: [&str; 2] = ["--labels", LABEL];

/// The sentence, and the words of the program that failed; not how it was called.
fn because(sentence: &str) -> impl FnOnce(Error) -> Error {
    move |error| anyhow!("{sentence}: {}", error.root_cause())
}

#[derive(Deserialize)]
struct Release {
    name: String,
    status: String,
}

/// The release of Framewright, in whatever state it is.
async fn release(hands: &Hands, selector: &[&str]) -> Result<Option<Release>> {
    let mut list = hands.program(&hands.helm);
    list.args(["list", "--namespace", SYSTEM, "--output", "json"])
        .args(selector);
    let releases = output(&mut list, PATIENCE).await?;
    let releases: Vec<Release> =
        serde_json::from_str(&releases).context("understand the answer of `helm list`")?;
    Ok(releases
        .into_iter()
        .find(|release| release.name == "framewright"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_with_perhaps_a_port_and_a_path() {
        for (text, name, is_plain) in [
            ("registry.example.com", "registry.example.com", false),
            ("ghcr.io/somebody/", "ghcr.io/somebody", false),
            ("https://10.0.0.5:5000", "10.0.0.5:5000", false),
            ("http://10.0.0.5:5000", "10.0.0.5:5000", true),
            ("localhost", "localhost", false),
        ] {
            let registry = Registry::parse(text).unwrap();
            assert_eq!(
                (registry.name.as_str(), registry.is_plain),
                (name, is_plain),
                "{text}"
            );
        }
        for text in [
            "",
            "somebody",
            "http://",
            "a b.example.com",
            "ftp://example.com",
        ] {
            let error = Registry::parse(text).unwrap_err().to_string();
            assert!(
                error.contains("REGISTRY=registry.example.com"),
                "{text}: {error}"
            );
        }
    }
}
