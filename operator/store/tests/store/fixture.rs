//! A store on its own folder, its certificate, and links to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use framewright_crds::names::{ArtifactRole, OwnerKind};
use framewright_store::answers::Problem;
use framewright_store::client::StoreClient;
use framewright_store::grants::{self, Grant, SigningKeys, Verb};
use framewright_store::key::{ArtifactKey, Owner};
use framewright_store::{Running, StoreArgs, start};
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Nothing in these tests takes longer than this.
const DEADLINE: Duration = Duration::from_secs(30);

/// The files that a store has mounted, in a folder that goes when this goes.
pub(crate) struct Mounts {
    pub folder: tempfile::TempDir,
    pub volume: PathBuf,
    pub authority: Authority,
}

/// Who signs the store's certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A store in this process.
pub(crate) struct Store {
    pub mounts: Mounts,
    pub base: String,
    pub local: String,
    pub health: String,
    pub http: reqwest::Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), framewright_store::ServeError>>,
}

impl Authority {
    pub(crate) fn new() -> Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority {
            issuer: Issuer::new(params, key),
            pem,
        })
    }
}

impl Mounts {
    pub(crate) fn new() -> Result<Mounts> {
        let folder = tempfile::tempdir()?;
        let mounts = Mounts {
            volume: folder.path().join("volume"),
            folder,
            authority: Authority::new()?,
        };
        std::fs::create_dir(&mounts.volume)?;
        mounts.write_keys(&[1])?;
        mounts.write_certificate("127.0.0.1")?;
        Ok(mounts)
    }

    /// Each key is 32 times one byte; the first signs.
    pub(crate) fn write_keys(&self, bytes: &[u8]) -> Result<()> {
        let text: String = bytes
            .iter()
            .map(|byte| SigningKeys::file([*byte; 32]))
            .collect();
        replace(&self.path("keys"), &text)
    }

    pub(crate) fn write_certificate(&self, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        let certificate = params.signed_by(&key, &self.authority.issuer)?;
        replace(&self.path("tls.crt"), &certificate.pem())?;
        replace(&self.path("tls.key"), &key.serialize_pem())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn args(&self) -> Result<StoreArgs> {
        let anywhere = "127.0.0.1:0".parse()?;
        Ok(StoreArgs {
            volume: self.volume.clone(),
            keys: self.path("keys"),
            record_keys: None,
            certificate: self.path("tls.crt"),
            certificate_key: self.path("tls.key"),
            listen: anywhere,
            listen_local: anywhere,
            listen_health: anywhere,
            max_uploads: 16,
            upload_idle: Duration::from_secs(20),
            max_downloads: 1024,
            download_idle: Duration::from_secs(20),
            watch_idle: Duration::from_secs(20),
            max_watched: 20_000,
            reload_every: Duration::from_millis(50),
            sweep_every: Duration::from_secs(3600),
            grace: Duration::from_secs(5),
        })
    }
}

impl Store {
    pub(crate) async fn new() -> Result<Store> {
        Store::with(Mounts::new()?, |_| {}).await
    }

    pub(crate) async fn with(mounts: Mounts, change: impl FnOnce(&mut StoreArgs)) -> Result<Store> {
        let mut args = mounts.args()?;
        change(&mut args);
        let running: Running = start(args).await?;
        let (stop, stopped) = oneshot::channel();
        Ok(Store {
            http: trusting(&mounts.authority)?,
            mounts,
            base: format!("https://{}", running.address),
            local: format!("http://{}", running.local_address),
            health: format!("http://{}", running.health_address),
            stop,
            running: tokio::spawn(running.until(async {
                let _ = stopped.await;
            })),
        })
    }

    /// Stops it as SIGTERM does and gives back what it had mounted.
    pub(crate) async fn stop(self) -> Result<Mounts> {
        let _ = self.stop.send(());
        tokio::time::timeout(DEADLINE, self.running).await???;
        Ok(self.mounts)
    }

    pub(crate) fn client(&self) -> Result<StoreClient> {
        Ok(StoreClient::new(
            &self.base,
            self.mounts.authority.pem.as_bytes(),
            keys(1)?,
        )?)
    }

    pub(crate) async fn put(&self, key: &ArtifactKey, bytes: Vec<u8>) -> Result<reqwest::Response> {
        let link = put_link(&self.base, key, bytes.len() as u64)?;
        Ok(self.http.put(link).body(bytes).send().await?)
    }

    pub(crate) async fn get(&self, key: &ArtifactKey) -> Result<reqwest::Response> {
        Ok(self.http.get(get_link(&self.base, key)?).send().await?)
    }

    /// Every file below the volume, as text.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        files(&self.mounts.volume)
    }
}

/// An HTTP client that trusts one authority.
pub(crate) fn trusting(authority: &Authority) -> Result<reqwest::Client> {
    // The second test to do so finds it done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = reqwest::Certificate::from_pem(authority.pem.as_bytes())?;
    Ok(reqwest::Client::builder()
        .tls_certs_only([certificate])
        .no_proxy()
        .timeout(DEADLINE)
        .build()?)
}

pub(crate) fn keys(byte: u8) -> Result<SigningKeys> {
    Ok(SigningKeys::parse(&SigningKeys::file([byte; 32]))?)
}

/// `count` bytes that do not repeat soon.
pub(crate) fn content(count: usize) -> Vec<u8> {
    (0..count as u64)
        .map(|place| (place * place / 251 + place) as u8)
        .collect()
}

/// The key of `bytes` as an input, owned by the job with UID `uid`.
pub(crate) fn key_of(uid: &str, bytes: &[u8]) -> Result<ArtifactKey> {
    key_in("studio", uid, bytes)
}

/// The same in another namespace.
pub(crate) fn key_in(namespace: &str, uid: &str, bytes: &[u8]) -> Result<ArtifactKey> {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let owner = Owner::new(namespace, OwnerKind::AIJobs, uid)?;
    Ok(ArtifactKey::new(
        owner,
        ArtifactRole::Input,
        &hex::encode(digest),
    )?)
}

pub(crate) fn owner(uid: &str) -> Result<Owner> {
    Ok(Owner::new("studio", OwnerKind::AIJobs, uid)?)
}

pub(crate) fn link(base: &str, verb: Verb) -> Result<String> {
    let expires = Timestamp::now() + SignedDuration::from_secs(600);
    Ok(grants::sign(base, &Grant { verb, expires }, &keys(1)?))
}

pub(crate) fn put_link(base: &str, key: &ArtifactKey, bytes: u64) -> Result<String> {
    link(
        base,
        Verb::Put {
            key: key.clone(),
            bytes,
            media_type: "video/mp4".into(),
        },
    )
}

pub(crate) fn get_link(base: &str, key: &ArtifactKey) -> Result<String> {
    link(
        base,
        Verb::Get {
            key: key.clone(),
            file_name: "large.mp4".into(),
            media_type: "video/mp4".into(),
        },
    )
}

pub(crate) async fn reason(response: reqwest::Response) -> Result<(u16, String)> {
    let status = response.status().as_u16();
    let body = response.bytes().await?;
    let problem: Problem = serde_json::from_slice(&body)
        .with_context(|| format!("{status}: {}", String::from_utf8_lossy(&body)))?;
    ensure!(problem.message.len() > 20, "no sentence: {problem:?}");
    Ok((status, problem.reason))
}

/// A connection that sends what it is told, when it is told.
pub(crate) struct Raw(pub TcpStream);

impl Raw {
    /// Begins a PUT over plain HTTP and leaves its body open.
    pub(crate) async fn put(local: &str, link: &str, length: u64) -> Result<Raw> {
        let headers = format!("Content-Length: {length}\r\n");
        Raw::begin(local, "PUT", link, &headers).await
    }

    /// Asks for an artifact over plain HTTP and does not read what comes.
    pub(crate) async fn get(local: &str, link: &str) -> Result<Raw> {
        Raw::begin(local, "GET", link, "").await
    }

    async fn begin(local: &str, method: &str, link: &str, headers: &str) -> Result<Raw> {
        let target = link.strip_prefix(local).context("a link to this store")?;
        let head = format!("{method} {target} HTTP/1.1\r\nHost: store\r\n{headers}\r\n");
        let address = local.strip_prefix("http://").context("plain HTTP")?;
        let mut raw = Raw(TcpStream::connect(address).await?);
        raw.send(head.as_bytes()).await?;
        Ok(raw)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).await?;
        Ok(self.0.flush().await?)
    }

    /// What comes back up to the end of the answer's JSON body, or of the connection.
    pub(crate) async fn answer(&mut self) -> Result<String> {
        answer(&mut self.0).await
    }
}

/// The same, of one half of a connection.
pub(crate) async fn answer(mut connection: impl AsyncRead + Unpin) -> Result<String> {
    let mut text = String::new();
    let mut buffer = vec![0; 4096];
    while !text.trim_end().ends_with('}') {
        let count = tokio::time::timeout(DEADLINE, connection.read(&mut buffer)).await??;
        if count == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    Ok(text)
}

/// Looks again and again until it is so.
pub(crate) async fn eventually<Look>(what: &str, mut look: impl FnMut() -> Look) -> Result<()>
where
    Look: Future<Output = Result<bool>>,
{
    let polling = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if look().await? {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(DEADLINE, polling)
        .await
        .with_context(|| format!("never happened: {what}"))?
}

pub(crate) fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    Ok(found)
}

/// As a kubelet does it: the file is there at all times, old or new.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, path)?)
}
