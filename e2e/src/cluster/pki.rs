//! The cluster's certificates and kubeconfigs, made afresh at each start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::folder::Folder;
use super::network::Network;

/// Who talks to the API server: file name, common name, organization.
const USERS: [(&str, &str, Option<&str>); 5] = [
    ("admin", "admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("proxy", "system:kube-proxy", None),
    ("node1", "system:node:node1", Some("system:nodes")),
];

/// Writes the authorities, all certificates, the service accounts' key and the kubeconfigs.
pub(crate) fn write(folder: &Folder, network: Network) -> Result<()> {
    let authority = Authority::new("framewright-test")?;
    let front_proxy = Authority::new("front-proxy")?;
    let node = network.node().to_string();
    save(folder, "ca.crt", &authority.certificate)?;
    save(folder, "ca.key", &authority.key)?;
    save(folder, "front-proxy-ca.crt", &front_proxy.certificate)?;
    let accounts = KeyPair::generate().context("make the service accounts' key")?;
    save(folder, "service-accounts.key", &accounts.serialize_pem())?;
    save(folder, "service-accounts.pub", &accounts.public_key_pem())?;
    let kubernetes = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let names: Vec<&str> = [node.as_str(), "127.0.0.1", "10.96.0.1", "localhost"]
        .into_iter()
        .chain(kubernetes)
        .collect();
    save_pair(
        folder,
        "apiserver",
        authority.server("kube-apiserver", &names)?,
    )?;
    save_pair(
        folder,
        "kubelet",
        authority.server("kubelet", &[&node, "127.0.0.1", "node1"])?,
    )?;
    save_pair(
        folder,
        "apiserver-to-kubelet",
        authority.client("apiserver-to-kubelet", Some("system:masters"))?,
    )?;
    save_pair(
        folder,
        "front-proxy",
        front_proxy.client("front-proxy-client", None)?,
    )?;
    for (user, common_name, organization) in USERS {
        let pair = authority.client(common_name, organization)?;
        let path = folder.kubeconfig(user);
        fs::write(&path, kubeconfig(folder, network, &authority, &pair))
            .with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("protect {}", path.display()))?;
    }
    Ok(())
}

/// Complete in itself, so that it can be copied anywhere. JSON, which is YAML.
fn kubeconfig(folder: &Folder, network: Network, authority: &Authority, pair: &Pair) -> String {
    let data = |pem: &str| STANDARD.encode(pem);
    let name = &folder.name;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": format!("https://{}:6443", network.node()),
            "certificate-authority-data": data(&authority.certificate),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": data(&pair.certificate),
            "client-key-data": data(&pair.key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    format!("{config:#}\n")
}

/// PEM.
struct Pair {
    certificate: String,
    key: String,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Result<Authority> {
        let key = KeyPair::generate().context("make an authority's key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        let certificate = params.self_signed(&key).context("sign an authority")?.pem();
        let pem = key.serialize_pem();
        Ok(Authority {
            issuer: Issuer::new(params, key),
            certificate,
            key: pem,
        })
    }

    fn server(&self, common_name: &str, names: &[&str]) -> Result<Pair> {
        self.issue(
            common_name,
            None,
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    fn client(&self, common_name: &str, organization: Option<&str>) -> Result<Pair> {
        self.issue(
            common_name,
            organization,
            &[],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    fn issue(
        &self,
        common_name: &str,
        organization: Option<&str>,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params =
            CertificateParams::new(names).with_context(|| format!("names of {common_name}"))?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        if let Some(organization) = organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().with_context(|| format!("make the key of {common_name}"))?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("sign {common_name}"))?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn save_pair(folder: &Folder, name: &str, pair: Pair) -> Result<()> {
    save(folder, &format!("{name}.crt"), &pair.certificate)?;
    save(folder, &format!("{name}.key"), &pair.key)
}

fn save(folder: &Folder, name: &str, pem: &str) -> Result<()> {
    folder.write(&folder.pki(name), pem)
}
