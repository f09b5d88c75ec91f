//! The plugin behind a proxy. The name of the API server means nothing on this machine, so that only the proxy finds it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

const NAME: &str = "api.framewright.test";
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn https_proxy_leads_to_the_api_server_and_no_proxy_keeps_it_out() {
    let server = Server::start();
    let proxy = Proxy::start(server.port, "200 OK");
    let url = format!("http://user:p%40ss@{}", proxy.address);
    let api = format!("https://{NAME}:6443");
    for (name, value) in [
        ("HTTPS_PROXY", url.as_str()),
        ("https_proxy", &url),
        ("HTTPS_PROXY", &url["http://".len()..]),
    ] {
        let said = server.plugin(&api, "", &[(name, value), ("NO_PROXY", "other.test,")]);
        assert!(said.contains("no AIJobs in namespace default"), "{said}");
        let request = proxy.requests().pop().expect("a request");
        assert!(
            request.starts_with(&format!("CONNECT {NAME}:6443 ")),
            "{request}"
        );
        // user:p@ss
        assert!(request.contains("Basic dXNlcjpwQHNz\r\n"), "{request}");
    }
    for variables in [
        &[
            ("HTTPS_PROXY", url.as_str()),
            ("NO_PROXY", ".framewright.test"),
        ][..],
        &[("HTTPS_PROXY", &url), ("no_proxy", &format!("{NAME}:6443"))],
        &[("HTTP_PROXY", &url), ("ALL_PROXY", &url)],
        &[],
    ] {
        let said = server.plugin(&api, "", variables);
        assert!(said.contains("cannot reach the API server"), "{said}");
        assert!(proxy.requests().is_empty(), "{variables:?}");
    }
}

#[test]
fn this_machine_is_reached_through_a_proxy_only_if_the_kubeconfig_names_it() {
    let server = Server::start();
    let proxy = Proxy::start(server.port, "200 OK");
    let url = format!("http://{}", proxy.address);
    let api = format!("https://127.0.0.1:{}", server.port);
    let said = server.plugin(&api, "", &[("HTTPS_PROXY", &url)]);
    assert!(said.contains("no AIJobs in namespace default"), "{said}");
    assert!(proxy.requests().is_empty());
    let named = format!(", proxy-url: '{url}'");
    let said = server.plugin(&api, &named, &[("NO_PROXY", "*")]);
    assert!(said.contains("no AIJobs in namespace default"), "{said}");
    assert_eq!(proxy.requests().len(), 1);
}

#[test]
fn a_proxy_that_refuses_or_is_away_is_named_as_the_cause() {
    let server = Server::start();
    let api = format!("https://{NAME}:6443");
    let refusing = Proxy::start(server.port, "407 Proxy Authentication Required");
    let away = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    for (url, why) in [
        (
            format!("http://{}", refusing.address),
            "proxy authorization required",
        ),
        (format!("http://{away}"), "refused"),
        (format!("socks5://{away}"), "SOCKS error"),
    ] {
        let said = server.plugin(&api, "", &[("HTTPS_PROXY", &url)]);
        assert!(
            said.contains("cannot connect through the proxy"),
            "{url}: {said}"
        );
        assert!(said.contains(why), "{url}: {said}");
    }
    let said = server.plugin(&api, "", &[("HTTPS_PROXY", "ftp://proxy")]);
    assert!(said.contains("HTTPS_PROXY is \"ftp://proxy\""), "{said}");
}

/// An API server without objects.
struct Server {
    port: u16,
    certificate: String,
}

impl Server {
    fn start() -> Server {
        let names = vec![NAME.to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a certificate with its key");
        let config = Arc::new(config);
        let port = serve(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            if head(&mut stream).is_some() {
                let list = r#"{"apiVersion": "framewright.dev/v1alpha1", "kind": "AIJobList", "metadata": {}, "items": []}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{list}",
                    list.len()
                );
                // A client that left is no concern of the server.
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.flush();
            }
        });
        Server {
            port,
            certificate: made.cert.pem(),
        }
    }

    /// What `kubectl framewright get` says with this server and these variables.
    fn plugin(&self, server: &str, more: &str, variables: &[(&str, &str)]) -> String {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("ca.pem"), &self.certificate).expect("is written");
        let kubeconfig = folder.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a}}}}]\nclusters: [{{name: a, cluster: {{server: '{server}', certificate-authority: ca.pem{more}}}}}]\n"
        );
        fs::write(&kubeconfig, text).expect("is written");
        let mut plugin = Command::new(env!("CARGO_BIN_EXE_kubectl-framewright"));
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"] {
            plugin.env_remove(name);
            plugin.env_remove(name.to_lowercase());
        }
        let output = plugin
            .arg("get")
            .env("KUBECONFIG", &kubeconfig)
            .envs(variables.iter().copied())
            .output()
            .expect("the plugin runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A proxy that leads each tunnel to one port of this machine, or refuses it.
struct Proxy {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(target: u16, answer: &'static str) -> Proxy {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let port = serve(move |mut client| {
            let Some(request) = head(&mut client) else {
                return;
            };
            hears.lock().expect("no panic").push(request);
            let _ = client.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes());
            if answer.starts_with("200") {
                let server =
                    TcpStream::connect(("127.0.0.1", target)).expect("the server is there");
                let (mut from, mut to) = (
                    client.try_clone().expect("a handle"),
                    server.try_clone().expect("a handle"),
                );
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let (mut from, mut to) = (server, client);
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            }
        });
        Proxy {
            address: format!("127.0.0.1:{port}"),
            heard,
        }
    }

    /// What has been asked since the last call.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().expect("no panic"))
    }
}

/// Serves each connection on a thread of its own, and returns the port.
fn serve(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
            let answer = answer.clone();
            thread::spawn(move || answer(stream));
        }
    });
    port
}

/// The head of a request. None if it is not HTTP, or does not come.
fn head(stream: &mut impl Read) -> Option<String> {
    // A byte at a time, so that nothing behind the head is taken.
    let mut reader = BufReader::with_capacity(1, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}
