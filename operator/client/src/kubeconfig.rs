//! The kubeconfig, found, merged and read as kubectl does it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use hyper::Uri;
use kube::Config;
use kube::config::{AuthInfo, Cluster, Context, ExecAuthCluster, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

/// Where kubectl looks for an API server if no kubeconfig names one.
const DEFAULT_SERVER: &str = "http://localhost:8080";

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file is not a kubeconfig.
    #[error("{path} is not a kubeconfig: {why}")]
    Content { path: PathBuf, why: KubeconfigError },
    /// Two files cannot be merged.
    #[error("{path} cannot be merged with the files before it: {why}")]
    Merge { path: PathBuf, why: KubeconfigError },
    /// No context is chosen.
    #[error("the kubeconfig has no current-context; choose a context with --context: {known}")]
    NoContext { known: Names },
    /// The chosen context is missing.
    #[error("there is no context {name:?}; there are: {known}")]
    UnknownContext { name: String, known: Names },
    /// The cluster of the context is missing.
    #[error("context {context:?} names cluster {name:?}, which is missing; there are: {known}")]
    UnknownCluster {
        context: String,
        name: String,
        known: Names,
    },
    /// The cluster has no server.
    #[error("cluster {cluster:?} has no server; write the URL of its API server there")]
    NoServer { cluster: String },
    /// The server is not a URL.
    #[error("server {server:?} of cluster {cluster:?} is not a URL")]
    Server { cluster: String, server: String },
    /// The certificate authority cannot be read.
    #[error("the certificate authority of cluster {cluster:?} cannot be used: {why}")]
    Authority {
        cluster: String,
        why: KubeconfigError,
    },
    /// The certificate authority is not a certificate.
    #[error("the certificate authority of cluster {cluster:?} is not a PEM certificate: {why}")]
    Certificate { cluster: String, why: pem::Error },
}

/// Names in a message.
#[derive(Debug)]
pub struct Names(Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => out.write_str("none"),
            names => out.write_str(&names.join(", ")),
        }
    }
}

/// All kubeconfig files as one.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    kubeconfig: Kubeconfig,
    /// How many files were found.
    found: usize,
    /// The files that were not found.
    missing: Vec<PathBuf>,
}

/// Reads the file that `--kubeconfig` names, or else those in `variable`, the value of `KUBECONFIG`, or else `.kube/config` in
/// `home`. Only a file that `--kubeconfig` names has to exist.
///
/// # Errors
/// If a file cannot be read or is not a kubeconfig.
pub(crate) fn read(
    named: Option<&Path>,
    variable: Option<OsString>,
    home: Option<PathBuf>,
) -> Result<Merged, Error> {
    let files: Vec<PathBuf> = match (named, variable.filter(|list| !list.is_empty())) {
        (Some(file), _) => vec![file.to_owned()],
        (None, Some(list)) => std::env::split_paths(&list)
            .filter(|path| !path.as_os_str().is_empty())
            .collect(),
        (None, None) => home.iter().map(|home| home.join(".kube/config")).collect(),
    };
    let mut merged = Merged::default();
    for path in files {
        let mut next = match Kubeconfig::read_from(&path) {
            Ok(next) => next,
            Err(KubeconfigError::ReadConfig(error, _))
                if named.is_none() && error.kind() == io::ErrorKind::NotFound =>
            {
                merged.missing.push(path);
                continue;
            }
            Err(KubeconfigError::ReadConfig(source, _)) => {
                return Err(Error::Read { path, source });
            }
            Err(why) => return Err(Error::Content { path, why }),
        };
        merged.found += 1;
        // `kubectl config unset current-context` leaves an empty one.
        next.current_context = next.current_context.filter(|name| !name.is_empty());
        let earlier = std::mem::take(&mut merged.kubeconfig);
        merged.kubeconfig = earlier
            .merge(next)
            .map_err(|why| Error::Merge { path, why })?;
    }
    Ok(merged)
}

/// How to connect.
pub(crate) struct Connect {
    pub(crate) config: Config,
    /// The kubeconfig's `proxy-url`.
    pub(crate) proxy_url: Option<String>,
    /// A line for the user, if no kubeconfig says how.
    pub(crate) notice: Option<String>,
}

impl Merged {
    /// The connection that a context describes, by default the current one. Without a context: this pod's own cluster, else kubectl's
    /// default server. `variable` looks an environment variable up.
    ///
    /// # Errors
    /// If the context is missing, or does not describe a connection.
    pub(crate) fn connect(
        &self,
        context: Option<&str>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Connect, Error> {
        let current = self.kubeconfig.current_context.as_deref();
        if let Some(context) = context.or(current) {
            return self.config(context);
        }
        if let Ok(config) = Config::incluster() {
            return Ok(Connect {
                config,
                proxy_url: None,
                notice: None,
            });
        }
        self.default_server(variable)
    }

    fn default_server(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Connect, Error> {
        if self.found > 0 {
            return Err(Error::NoContext {
                known: self.contexts(),
            });
        }
        let server = variable("KUBERNETES_MASTER").filter(|server| !server.is_empty());
        let server = server.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let url = server.parse().map_err(|_| Error::Server {
            cluster: "KUBERNETES_MASTER".to_owned(),
            server: server.clone(),
        })?;
        let missing = self.missing.iter().map(|path| path.display().to_string());
        let missing = Names(missing.collect());
        let notice = format!(
            "no kubeconfig was found ({missing}); the plugin connects to {server}, as kubectl does; set --kubeconfig or KUBECONFIG"
        );
        Ok(Connect {
            config: Config::new(url),
            proxy_url: None,
            notice: Some(notice),
        })
    }

    fn contexts(&self) -> Names {
        let contexts = self.kubeconfig.contexts.iter();
        Names(contexts.map(|context| context.name.clone()).collect())
    }

    /// The connection that a context describes. kube's own function for this reads `HTTPS_PROXY` and `NO_PROXY`, too, in another way
    /// than kubectl, and fails where it does not understand them.
    fn config(&self, name: &str) -> Result<Connect, Error> {
        let context = self.context(name)?;
        let (cluster, cluster_name) = (self.cluster(name, context)?, &context.cluster);
        let server = cluster.server.as_deref().unwrap_or_default();
        if server.is_empty() {
            return Err(Error::NoServer {
                cluster: cluster_name.clone(),
            });
        }
        let url: Uri = server.parse().map_err(|_| Error::Server {
            cluster: cluster_name.clone(),
            server: server.to_owned(),
        })?;
        let for_exec = ExecAuthCluster::try_from(&cluster).map_err(|why| Error::Authority {
            cluster: cluster_name.clone(),
            why,
        })?;
        let authority = for_exec.certificate_authority_data.as_deref();
        let authority = authority.map(|pem| certificates(cluster_name, pem));

        let mut config = Config::new(url);
        config.root_cert = authority.transpose()?;
        config.auth_info = self.user(context);
        if let Some(exec) = &mut config.auth_info.exec
            && exec.provide_cluster_info
        {
            exec.cluster = Some(for_exec);
        }
        let namespace = context.namespace.as_ref();
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            config.default_namespace.clone_from(namespace);
        }
        config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
        config.disable_compression = cluster.disable_compression.unwrap_or(false);
        config.tls_server_name = cluster.tls_server_name;
        Ok(Connect {
            config,
            proxy_url: cluster.proxy_url,
            notice: None,
        })
    }

    fn context(&self, name: &str) -> Result<&Context, Error> {
        let mut contexts = self.kubeconfig.contexts.iter();
        let found = contexts.find(|context| context.name == name);
        found
            .and_then(|context| context.context.as_ref())
            .ok_or_else(|| Error::UnknownContext {
                name: name.to_owned(),
                known: self.contexts(),
            })
    }

    /// The cluster of a context. An empty text counts as missing.
    fn cluster(&self, context: &str, of: &Context) -> Result<Cluster, Error> {
        let clusters = &self.kubeconfig.clusters;
        let found = clusters.iter().find(|cluster| cluster.name == of.cluster);
        let found = found.and_then(|cluster| cluster.cluster.clone());
        let mut cluster = found.ok_or_else(|| Error::UnknownCluster {
            context: context.to_owned(),
            name: of.cluster.clone(),
            known: Names(clusters.iter().map(|known| known.name.clone()).collect()),
        })?;
        for text in [
            &mut cluster.certificate_authority,
            &mut cluster.certificate_authority_data,
            &mut cluster.tls_server_name,
        ] {
            text.take_if(|text| text.is_empty());
        }
        Ok(cluster)
    }

    /// The user of a context. kubectl connects without one, too.
    fn user(&self, context: &Context) -> AuthInfo {
        let mut users = self.kubeconfig.auth_infos.iter();
        let found = users.find(|user| Some(&user.name) == context.user.as_ref());
        found
            .and_then(|user| user.auth_info.clone())
            .unwrap_or_default()
    }
}

fn certificates(cluster: &str, pem: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|why| Error::Certificate {
            cluster: cluster.to_owned(),
            why,
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn files_that_are_missing_are_passed_over() {
        let folder = TempDir::new().expect("a folder");
        let there = write(&folder, "there", "a", "https://a:1", "current-context: a");
        let merged = from_variable(&[folder.path().join("nowhere"), PathBuf::new(), there]);
        assert_eq!(server(&merged, None), "https://a:1/");
    }

    #[test]
    fn the_first_file_that_sets_a_value_wins() {
        let folder = TempDir::new().expect("a folder");
        let files = [
            write(
                &folder,
                "1",
                "a",
                "https://first:1",
                "current-context: \"\"",
            ),
            write(&folder, "2", "a", "https://second:1", "current-context: b"),
            write(&folder, "3", "b", "https://third:1", "current-context: a"),
        ];
        assert_eq!(server(&from_variable(&files), None), "https://third:1/");
        assert_eq!(
            server(&from_variable(&files), Some("a")),
            "https://first:1/"
        );
        let unknown = server(&from_variable(&files), Some("c"));
        assert_eq!(unknown, "there is no context \"c\"; there are: a, b");
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let folder = TempDir::new().expect("a folder");
        let nowhere = folder.path().join("nowhere");
        let refused = read(Some(&nowhere), None, None).expect_err("it is missing");
        assert!(matches!(refused, Error::Read { .. }), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_refused_by_name() {
        let folder = TempDir::new().expect("a folder");
        let there = write(&folder, "there", "a", "https://a:1", "");
        let bad = folder.path().join("bad");
        fs::write(&bad, "clusters: 5").expect("is written");
        let list = std::env::join_paths([&there, &bad]).expect("a list");
        let refused = read(None, Some(list), None).expect_err("it is no kubeconfig");
        assert!(
            refused.to_string().contains("bad is not a kubeconfig"),
            "{refused}"
        );
    }

    #[test]
    fn without_a_kubeconfig_the_server_is_kubectls_default_and_home_counts_only_without_kubeconfig()
    {
        let folder = TempDir::new().expect("a folder");
        let home = folder.path().join("home");
        fs::create_dir_all(home.join(".kube")).expect("a folder");
        write(
            &folder,
            "home/.kube/config",
            "a",
            "https://home:1",
            "current-context: a",
        );
        for empty in ["", "unset"] {
            let variable = (empty != "unset").then(|| OsString::from(empty));
            let merged = read(None, variable, Some(home.clone())).expect("is read");
            assert_eq!(server(&merged, None), "https://home:1/");
        }
        let nowhere = folder.path().join("nowhere");
        let list = std::env::join_paths([&nowhere, &nowhere]).expect("a list");
        let merged = read(None, Some(list), Some(home)).expect("is read");
        let connect = merged.connect(None, &|_| None).expect("a default");
        assert_eq!(connect.config.cluster_url, "http://localhost:8080/");
        let notice = connect.notice.expect("says so");
        assert!(
            notice.contains("nowhere") && notice.contains("--kubeconfig"),
            "{notice}"
        );
        let merged = Merged::default();
        let master = |name: &str| (name == "KUBERNETES_MASTER").then(|| "http://m:1".to_owned());
        let connect = merged.connect(None, &master).expect("a default");
        assert_eq!(connect.config.cluster_url, "http://m:1/");
    }

    #[test]
    fn a_kubeconfig_without_a_current_context_says_which_there_are() {
        let folder = TempDir::new().expect("a folder");
        let there = write(&folder, "there", "a", "https://a:1", "");
        let refused = server(&from_variable(&[there]), None);
        assert_eq!(
            refused,
            "the kubeconfig has no current-context; choose a context with --context: a"
        );
    }

    #[test]
    fn each_part_of_a_context_is_used() {
        let folder = TempDir::new().expect("a folder");
        // Nothing but the armour is looked at here.
        let authority = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(folder.path().join("ca.pem"), authority).expect("is written");
        let text = "
apiVersion: v1
kind: Config
current-context: a
contexts: [{name: a, context: {cluster: a, user: u, namespace: studio}}]
clusters:
- name: a
  cluster: {server: 'http://api.example.com', certificate-authority: ca.pem, certificate-authority-data: '', tls-server-name: other, insecure-skip-tls-verify: true, proxy-url: 'http://proxy'}
users: [{name: u, user: {token: secret, exec: {command: login, provideClusterInfo: true}}}]
";
        let path = folder.path().join("config");
        fs::write(&path, text).expect("is written");
        let merged = read(Some(&path), None, None).expect("is read");
        let connect = merged.connect(None, &|_| None).expect("is used");
        assert_eq!(connect.proxy_url.as_deref(), Some("http://proxy"));
        let config = connect.config;
        assert_eq!(config.default_namespace, "studio");
        assert_eq!(config.tls_server_name.as_deref(), Some("other"));
        assert!(config.accept_invalid_certs);
        assert_eq!(config.root_cert.map(|all| all.len()), Some(1));
        assert!(config.auth_info.token.is_some());
        let exec = config.auth_info.exec.expect("a command");
        let server = exec.cluster.and_then(|cluster| cluster.server);
        assert_eq!(server.as_deref(), Some("http://api.example.com"));
        assert_eq!(config.cluster_url, "http://api.example.com/");
    }

    /// A kubeconfig with one context and one cluster of this name.
    fn write(folder: &TempDir, file: &str, name: &str, server: &str, more: &str) -> PathBuf {
        let path = folder.path().join(file);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncontexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]\nclusters: [{{name: {name}, cluster: {{server: '{server}'}}}}]\n{more}\n"
        );
        fs::write(&path, text).expect("is written");
        path
    }

    fn from_variable(files: &[PathBuf]) -> Merged {
        let list = std::env::join_paths(files).expect("a list");
        read(None, Some(list), None).expect("is read")
    }

    /// The server, or the error.
    fn server(merged: &Merged, context: Option<&str>) -> String {
        match merged.connect(context, &|_| None) {
            Ok(connect) => connect.config.cluster_url.to_string(),
            Err(error) => error.to_string(),
        }
    }
}
