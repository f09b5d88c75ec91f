//! `digest`: prints the digest and size of local files.

use framewright_client::digest::{self, FileDigest, LocalFile};
use framewright_client::screen::Screen;

use crate::Ended;
use crate::args::Digest;

pub(crate) async fn run(screen: &Screen, args: Digest) -> Result<Ended, digest::Error> {
    let Digest { paths } = args;
    let is_one = paths.len() == 1;
    for path in paths {
        let LocalFile { path, content } = digest::of_file(screen, path).await?;
        let FileDigest { digest, bytes } = content;
        let remark = if is_one {
            String::new()
        } else {
            format!(" # {}", path.display())
        };
        println!("{{digest: {digest}, bytes: {bytes}}}{remark}");
    }
    Ok(Ended::Well)
}
