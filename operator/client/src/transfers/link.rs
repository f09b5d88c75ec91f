//! The request target of a presigned link inside a port-forward: everything from /v1 on. No I/O.

/// The start of the signed part of every link.
const SIGNED: &str = "/v1/";

/// A text that is not a presigned link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the link in the status is no http address with a path below /v1; operator and plugin are of different versions"
)]
pub struct BadLink;

/// Path and query as the store's pod expects them, without the prefix of a proxy in front of it.
pub(crate) fn target(link: &str) -> Result<&str, BadLink> {
    let rest = link
        .strip_prefix("https://")
        .or_else(|| link.strip_prefix("http://"))
        .ok_or(BadLink)?;
    let path = rest.find('/').map(|at| &rest[at..]).ok_or(BadLink)?;
    let query_at = path.find('?').unwrap_or(path.len());
    let at = path[..query_at].find(SIGNED).ok_or(BadLink)?;
    Ok(&path[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_stays_and_what_leads_there_goes() {
        for base in [
            "https://framewright-store.framewright-system.svc:8443",
            "http://127.0.0.1:8080",
            "https://video.example.org/store",
        ] {
            assert_eq!(
                target(&format!("{base}/v1/artifacts/a/b?verb=get&sig=x_/v1/")),
                Ok("/v1/artifacts/a/b?verb=get&sig=x_/v1/"),
                "{base}"
            );
        }
    }

    #[test]
    fn a_text_that_is_no_link_is_refused() {
        for text in [
            "",
            "artifact://a/b",
            "https://host",
            "https://host/x?y=/v1/",
        ] {
            assert_eq!(target(text), Err(BadLink), "{text}");
        }
    }
}
