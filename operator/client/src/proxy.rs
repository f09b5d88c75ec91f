//! Which proxy leads to the API server, chosen as kubectl chooses it. No I/O.
//!
//! The kubeconfig's `proxy-url` comes first, and is used for every host. Without it `HTTPS_PROXY` (for an `http://` API server
//! `HTTP_PROXY`) names the proxy, and `NO_PROXY` the hosts that are reached without one. `ALL_PROXY` is not read.

use std::net::IpAddr;

use hyper::Uri;
use kube::Config;

/// Why a proxy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The value is not the URL of a proxy.
    #[error(
        "{setting} is {value:?}, which is not the URL of a proxy; write http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, and in a password %40 for @ and %3A for :"
    )]
    Url { setting: String, value: String },
    /// A SOCKS proxy wants a login.
    #[error(
        "{setting} has a user for a SOCKS proxy, and this plugin cannot log in to one; name an HTTP proxy, or a SOCKS proxy without a login"
    )]
    SocksUser { setting: String },
}

/// Lets the connection go through the proxy that is named for its server, if any. `proxy_url` is the kubeconfig's, `variable` looks
/// an environment variable up.
///
/// # Errors
/// If the proxy cannot be used.
pub(crate) fn set(
    config: &mut Config,
    proxy_url: Option<&str>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Error> {
    config.proxy_url = choose(&config.cluster_url, proxy_url, variable)?;
    let url = &config.cluster_url;
    if let (Some(_), Some("http"), Some(host), None) = (
        &config.proxy_url,
        url.scheme_str(),
        url.host(),
        url.port_u16(),
    ) {
        // A tunnel leads to port 443 otherwise.
        let built = Uri::builder()
            .scheme("http")
            .authority(format!("{host}:80"))
            .path_and_query(url.path())
            .build();
        config.cluster_url = built.unwrap_or_else(|_| url.clone());
    }
    Ok(())
}

fn choose(
    server: &Uri,
    proxy_url: Option<&str>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, Error> {
    if let Some(url) = proxy_url.filter(|url| !url.is_empty()) {
        let setting = "proxy-url in the kubeconfig";
        return match url.contains("://") {
            true => parse(setting, url).map(Some),
            false => Err(bad(setting, url)),
        };
    }
    let (names, port) = match server.scheme_str() {
        Some("http") => (["HTTP_PROXY", "http_proxy"], 80),
        Some(_) | None => (["HTTPS_PROXY", "https_proxy"], 443),
    };
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some((name, value))
        })
    };
    let (Some((name, value)), Some(host)) = (first(names), server.host()) else {
        return Ok(None);
    };
    let excluded = first(["NO_PROXY", "no_proxy"]).map(|(_, hosts)| hosts);
    let port = server.port_u16().unwrap_or(port);
    if is_direct(host, port, excluded.as_deref().unwrap_or_default()) {
        return Ok(None);
    }
    if value.contains("://") {
        return parse(name, &value).map(Some);
    }
    parse(name, &format!("http://{value}")).map(Some)
}

/// A URL with scheme, host and port, as the client needs it.
fn parse(setting: &str, text: &str) -> Result<Uri, Error> {
    let bad = || bad(setting, text);
    let uri: Uri = text.parse().map_err(|_| bad())?;
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let (scheme, port) = match scheme.as_str() {
        "http" => ("http", 80),
        "https" => ("https", 443),
        // The name of the API server is resolved by the proxy with both.
        "socks5" | "socks5h" => ("socks5", 1080),
        _ => return Err(bad()),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let port = uri.port_u16().unwrap_or(port);
    let user = uri.authority().and_then(|authority| {
        let (user, _) = authority.as_str().rsplit_once('@')?;
        Some(user)
    });
    let user = match user {
        None => String::new(),
        Some(_) if scheme == "socks5" => {
            return Err(Error::SocksUser {
                setting: setting.to_owned(),
            });
        }
        Some(user) if user.contains(':') => format!("{user}@"),
        Some(user) => format!("{user}:@"),
    };
    Uri::builder()
        .scheme(scheme)
        .authority(format!("{user}{host}:{port}"))
        .path_and_query("/")
        .build()
        .map_err(|_| bad())
}

/// The error does not show a password.
fn bad(setting: &str, text: &str) -> Error {
    let value = match text.rsplit_once('@') {
        Some((login, rest)) => {
            let scheme = login.split_once("://").map(|(scheme, _)| scheme);
            match scheme {
                Some(scheme) => format!("{scheme}://…@{rest}"),
                None => format!("…@{rest}"),
            }
        }
        None => text.to_owned(),
    };
    Error::Url {
        setting: setting.to_owned(),
        value,
    }
}

// hyper-util's Matcher differs from kubectl: no ports in NO_PROXY, `*` for names only, no `*.domain`, `.domain` for the domain itself.
/// Whether a host is reached without a proxy, by the rules of Go's net/http: `no_proxy` is a list of hosts, domains, addresses and
/// CIDR ranges, separated by commas. This machine is never reached through a proxy.
fn is_direct(host: &str, port: u16, no_proxy: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let address = host
        .parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical());
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let target = Target {
        host: &host,
        address,
        port: &port.to_string(),
    };
    no_proxy
        .split(',')
        .any(|entry| target.is_meant_by(&entry.trim().to_lowercase()))
}

struct Target<'a> {
    host: &'a str,
    address: Option<IpAddr>,
    port: &'a str,
}

impl Target<'_> {
    fn is_meant_by(&self, entry: &str) -> bool {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = range(entry) {
            return self
                .address
                .is_some_and(|address| is_within(address, network, bits));
        }
        let (host, port) = host_and_port(entry);
        if host.is_empty() || !port.is_none_or(|port| port.is_empty() || port == self.port) {
            return false;
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.address == Some(address.to_canonical());
        }
        // `*.example.com` and `.example.com` mean the domain's hosts, `example.com` means itself, too.
        match host.strip_prefix('*').unwrap_or(host) {
            domain if domain.starts_with('.') => self.host.ends_with(domain),
            _ => {
                self.host == host
                    || self
                        .host
                        .strip_suffix(host)
                        .is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }
}

/// A range such as `10.0.0.0/8`.
fn range(entry: &str) -> Option<(IpAddr, u32)> {
    let (network, bits) = entry.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    let bits = bits.parse().ok()?;
    let most = if network.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((network, bits))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let differ = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (address.to_bits() ^ network.to_bits())
            .checked_shr(32 - bits)
            .unwrap_or(0)
            .into(),
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits() ^ network.to_bits())
            .checked_shr(128 - bits)
            .unwrap_or(0),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 1,
    };
    differ == 0
}

/// `host:port` or `[address]:port`; anything else is a host.
fn host_and_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        Some((host, port)) => match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(address)) => (address, Some(port)),
            None if !host.contains(':') => (host, Some(port)),
            Some(None) | None => (entry, None),
        },
        None => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_means_hosts_domains_addresses_ranges_and_ports() {
        for (no_proxy, direct, proxied) in [
            ("*", "example.com 10.0.0.1 [fd00::1]:6443", ""),
            (
                "example.com",
                "example.com EXAMPLE.com api.example.com:6443",
                "badexample.com example.com.org",
            ),
            (
                ".example.com",
                "api.example.com a.b.example.com",
                "example.com badexample.com",
            ),
            ("*.example.com", "api.example.com", "example.com"),
            (
                "example.com:6443",
                "example.com:6443 api.example.com:6443",
                "example.com api.example.com:8443",
            ),
            ("example.com:443", "example.com", "example.com:6443"),
            ("example.com:", "example.com:6443", ""),
            ("10.0.0.1", "10.0.0.1 10.0.0.1:6443", "10.0.0.11 110.0.0.1"),
            ("10.0.0.1:6443", "10.0.0.1:6443", "10.0.0.1"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1 [fd00::1]"),
            ("10.1.2.3/31", "10.1.2.2", "10.1.2.4"),
            ("0.0.0.0/0", "9.9.9.9", "example.com [fd00::1]"),
            ("fd00::/8", "[fd00::1]:6443", "[fe00::1] 10.0.0.1"),
            ("::/0", "[fd00::1]", "10.0.0.1"),
            ("fd00::1", "[fd00::1] [fd00:0::1]:6443", "[fd00::2]"),
            ("[fd00::1]:6443", "[fd00::1]:6443", "[fd00::1]"),
            ("::ffff:10.0.0.1", "10.0.0.1", ""),
            (
                " , a.com ,,Example.COM,10.0.0.0/33,[,:80,/",
                "a.com example.com",
                "10.0.0.1 b.com",
            ),
            ("", "", "example.com 10.0.0.1"),
            ("a.com b.com", "", "a.com b.com"),
        ] {
            for (hosts, is_wanted) in [(direct, true), (proxied, false)] {
                for host in hosts.split_whitespace() {
                    let chosen = chosen(
                        &format!("https://{host}"),
                        None,
                        &[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", no_proxy)],
                    );
                    let wanted = if is_wanted {
                        "none"
                    } else {
                        "http://proxy:3128/"
                    };
                    assert_eq!(chosen, wanted, "{host} with NO_PROXY {no_proxy:?}");
                }
            }
        }
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy_unless_the_kubeconfig_names_one() {
        let variables = [("HTTPS_PROXY", "proxy:3128"), ("HTTP_PROXY", "proxy:3128")];
        for server in [
            "https://localhost:6443",
            "http://LOCALHOST",
            "https://127.0.0.1:6443",
            "https://127.9.9.9",
            "https://[::1]:6443",
            "https://[::ffff:127.0.0.1]:6443",
        ] {
            assert_eq!(chosen(server, None, &variables), "none", "{server}");
            let variables = [("NO_PROXY", "*")];
            assert_eq!(
                chosen(server, Some("http://proxy:3128"), &variables),
                "http://proxy:3128/",
                "{server}"
            );
        }
        assert_eq!(
            chosen("https://localhost.example.com", None, &variables),
            "http://proxy:3128/"
        );
    }

    #[test]
    fn the_variable_for_the_servers_scheme_counts_in_capitals_first() {
        let https = "https://example.com";
        for (server, variables, wanted) in [
            (
                https,
                &[("HTTPS_PROXY", "a"), ("https_proxy", "b")][..],
                "http://a:80/",
            ),
            (
                https,
                &[("HTTPS_PROXY", ""), ("https_proxy", "b")],
                "http://b:80/",
            ),
            (
                https,
                &[("HTTP_PROXY", "a"), ("ALL_PROXY", "b"), ("all_proxy", "c")],
                "none",
            ),
            (
                "http://example.com",
                &[("HTTP_PROXY", "a"), ("HTTPS_PROXY", "b")],
                "http://a:80/",
            ),
            ("http://example.com", &[("HTTPS_PROXY", "b")], "none"),
            (
                https,
                &[("https_proxy", "b"), ("no_proxy", "example.com")],
                "none",
            ),
            (
                https,
                &[
                    ("https_proxy", "b"),
                    ("NO_PROXY", ""),
                    ("no_proxy", "example.com"),
                ],
                "none",
            ),
            (
                https,
                &[
                    ("https_proxy", "b"),
                    ("NO_PROXY", "x"),
                    ("no_proxy", "example.com"),
                ],
                "http://b:80/",
            ),
            (
                https,
                &[("HTTPS_PROXY", "no url"), ("NO_PROXY", "example.com,")],
                "none",
            ),
        ] {
            assert_eq!(chosen(server, None, variables), wanted, "{variables:?}");
        }
        let named = chosen(https, Some("http://a:1"), &[("HTTPS_PROXY", "b")]);
        assert_eq!(named, "http://a:1/");
        let unnamed = chosen(https, Some(""), &[("HTTPS_PROXY", "b")]);
        assert_eq!(unnamed, "http://b:80/");
    }

    #[test]
    fn each_form_of_a_proxys_url_is_understood_or_refused() {
        for (value, wanted) in [
            ("proxy:3128", "http://proxy:3128/"),
            ("user:p%40ss@proxy:3128", "http://user:p%40ss@proxy:3128/"),
            ("HTTP://proxy/path", "http://proxy:80/"),
            ("https://proxy", "https://proxy:443/"),
            ("https://user@proxy:1", "https://user:@proxy:1/"),
            ("socks5://proxy", "socks5://proxy:1080/"),
            ("socks5h://[fd00::1]:9", "socks5://[fd00::1]:9/"),
            (
                "socks5://user:pass@proxy",
                "HTTPS_PROXY has a user for a SOCKS proxy",
            ),
            (
                "ftp://proxy",
                "HTTPS_PROXY is \"ftp://proxy\", which is not",
            ),
            (
                "http://user:se^cret@proxy",
                "HTTPS_PROXY is \"http://…@proxy\", which is not",
            ),
            ("http://", "which is not"),
            (":3128", "which is not"),
        ] {
            let chosen = chosen("https://example.com", None, &[("HTTPS_PROXY", value)]);
            assert!(chosen.contains(wanted), "{value}: {chosen}");
            assert!(!chosen.contains("se^cret"), "{chosen}");
        }
        let refused = chosen("https://example.com", Some("proxy:3128"), &[]);
        assert!(
            refused.starts_with("proxy-url in the kubeconfig is \"proxy:3128\""),
            "{refused}"
        );
    }

    #[test]
    fn a_server_without_a_port_keeps_its_own_in_a_tunnel() {
        let variables = |name: &str| name.ends_with("_PROXY").then(|| "proxy".to_owned());
        for (server, wanted) in [
            ("http://example.com/x", "http://example.com:80/x"),
            ("http://example.com:81/", "http://example.com:81/"),
            ("https://example.com/", "https://example.com/"),
        ] {
            let mut config = Config::new(server.parse().expect("a URL"));
            set(&mut config, None, &variables).expect("a proxy");
            assert!(config.proxy_url.is_some());
            assert_eq!(config.cluster_url, wanted);
        }
    }

    /// The proxy's URL, "none", or the error.
    fn chosen(server: &str, proxy_url: Option<&str>, variables: &[(&str, &str)]) -> String {
        let server = server.parse().expect("a URL");
        let variable = |name: &str| {
            let found = variables.iter().find(|(its, _)| *its == name)?;
            Some(found.1.to_owned())
        };
        match choose(&server, proxy_url, &variable) {
            Ok(Some(proxy)) => proxy.to_string(),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}
