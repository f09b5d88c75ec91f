//! The link between a cluster and the machine it runs on.
//!
//! The node's end lives in the cluster's network namespace, so both ends go when the cluster goes.
//! Pods reach the machine's end and, unless the machine forwards, nothing beyond it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::anchor::Anchor;
use super::folder::{Folder, state};
use crate::command::output;
use crate::lock;

const SHORT: Duration = Duration::from_secs(10);

/// 10.99.N.0/24: the node is .1, the machine .254.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    number: u8,
}

impl Network {
    /// Joins a fresh cluster to the machine by the first subnet that is free.
    pub(crate) async fn connect(folder: &Folder, anchor: Anchor) -> Result<Network> {
        let lock = lock::wait(&state()?.join("network.lock"), SHORT).await?;
        let network =
            first_free(&taken().await?).context("all subnets of 10.99.0.0/16 are taken")?;
        let link = network.link();
        let pid = anchor.pid().to_string();
        ip(&[
            "link", "add", &link, "type", "veth", "peer", "name", "node0", "netns", &pid,
        ])
        .await?;
        ip(&["link", "set", "dev", &link, "alias", &folder.marker()]).await?;
        ip(&[
            "addr",
            "add",
            &format!("{}/24", network.machine()),
            "dev",
            &link,
        ])
        .await?;
        ip(&["link", "set", &link, "up"]).await?;
        drop(lock);
        let inside = format!(
            "addr add {node}/24 dev node0\nlink set node0 up\nroute add default via {machine}\n",
            node = network.node(),
            machine = network.machine()
        );
        let mut batch = anchor.command("ip");
        crate::command::output_with_input(batch.args(["-batch", "-"]), &inside, SHORT).await?;
        folder.write("network.json".as_ref(), &serde_json::to_string(&network)?)?;
        Ok(network)
    }

    /// The network of a running cluster.
    pub(crate) fn of(folder: &Folder) -> Result<Network> {
        let path = folder.file("network.json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not what was written", path.display()))
    }

    /// The address of the node and of the API server.
    pub(crate) fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.number, 1)
    }

    /// The address of this machine as pods and the node see it.
    pub(crate) fn machine(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.number, 254)
    }

    fn link(self) -> String {
        format!("framewright{}", self.number)
    }
}

/// Removes the machine's end of a cluster's link now; the kernel would in its own time.
pub(crate) async fn disconnect(folder: &Folder) -> Result<()> {
    for link in links().await? {
        if link.ifalias.as_deref() == Some(&folder.marker()) {
            // The kernel may have been faster.
            let _ = ip(&["link", "del", &link.ifname]).await;
        }
    }
    Ok(())
}

fn first_free(taken: &BTreeSet<u8>) -> Option<Network> {
    (1..=250)
        .find(|number| !taken.contains(number))
        .map(|number| Network { number })
}

/// The third numbers of all subnets of 10.99.0.0/16 that the machine has a link in.
async fn taken() -> Result<BTreeSet<u8>> {
    let addresses = links()
        .await?
        .into_iter()
        .flat_map(|link| link.addr_info)
        .map(|address| address.local);
    Ok(addresses
        .filter_map(|address| address.parse::<Ipv4Addr>().ok())
        .map(|address| address.octets())
        .filter(|octets| octets.starts_with(&[10, 99]))
        .map(|octets| octets[2])
        .collect())
}

#[derive(Debug, Deserialize)]
struct Link {
    ifname: String,
    ifalias: Option<String>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    local: String,
}

async fn links() -> Result<Vec<Link>> {
    let answer = ip(&["-details", "-json", "addr"]).await?;
    serde_json::from_str(&answer).context("understand the answer of `ip -json addr`")
}

async fn ip(arguments: &[&str]) -> Result<String> {
    output(Command::new("ip").args(arguments), SHORT).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_get_different_subnets() {
        let first = first_free(&BTreeSet::new()).unwrap();
        let second = first_free(&BTreeSet::from([1])).unwrap();
        assert_eq!(
            (first.node().to_string(), second.node().to_string()),
            ("10.99.1.1".into(), "10.99.2.1".into())
        );
    }
}
