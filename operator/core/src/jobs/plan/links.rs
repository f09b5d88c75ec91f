//! Links for uploads and results: which there are, and when they are made anew.

use framewright_crds::aijob::{AIJobStatus, OutputStatus};
use framewright_crds::file_names;
use framewright_crds::names::OwnerKind;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::jobs::seen::Observed;
use crate::links::{Place, Signer};
use crate::uploads::{Known, expiry};

/// Sets `status.uploads`: one entry for each file that the spec names, with a link until it has come.
pub fn uploads(seen: &Observed, status: &mut AIJobStatus, signer: &dyn Signer) {
    let place = place(seen);
    let files = seen
        .spec
        .steps
        .iter()
        .flat_map(|step| &step.inputs)
        .filter_map(|input| input.upload.as_ref())
        .map(|upload| (upload.sha256.as_str(), upload.bytes));
    let renew = crate::uploads::is_renewal_due(
        seen.renew_links.as_deref(),
        status.links_renewed_for.as_deref(),
    );
    let known = Known {
        old: &status.uploads,
        received: &seen.received,
        renew,
        now: seen.now,
    };
    let sign = |sha256: &str, bytes: i64, expires| signer.upload(&place, sha256, bytes, expires);
    status.uploads = crate::uploads::entries(files, &known, &sign);
    if renew {
        status.links_renewed_for.clone_from(&seen.renew_links);
    }
}

/// Sets `status.outputs`, with new links.
pub fn results(seen: &Observed, status: &mut AIJobStatus, signer: &dyn Signer) {
    let place = place(seen);
    let wanted = seen.spec.published();
    let outputs = wanted.iter().filter_map(|wanted| {
        let step = status
            .steps
            .iter()
            .find(|step| step.name == wanted.from_step.name)?;
        let artifact = step.output.as_ref()?;
        let expires = expiry(seen.now)?;
        let mut output = OutputStatus {
            name: wanted.name.clone(),
            step: step.name.clone(),
            digest: artifact.digest.clone(),
            media_type: artifact.media_type.clone(),
            bytes: artifact.bytes,
            link: None,
            expires_at: None,
        };
        link(seen, &place, &mut output, expires, signer);
        Some(output)
    });
    status.outputs = outputs.collect();
    status.links_renewed_for.clone_from(&seen.renew_links);
}

/// Makes the links of a job that is over anew.
pub fn renew(seen: &Observed, status: &mut AIJobStatus, signer: &dyn Signer) {
    let Some(expires) = expiry(seen.now) else {
        return;
    };
    let place = place(seen);
    for output in &mut status.outputs {
        link(seen, &place, output, expires, signer);
    }
    status.links_renewed_for.clone_from(&seen.renew_links);
}

fn link(
    seen: &Observed,
    place: &Place<'_>,
    output: &mut OutputStatus,
    expires: Timestamp,
    signer: &dyn Signer,
) {
    let extension = file_names::extension(&output.media_type);
    let file_name = file_names::result(&seen.name, &output.name, extension);
    output.link = Some(signer.download(place, output, &file_name, expires));
    output.expires_at = Some(Time(expires));
}

fn place(seen: &Observed) -> Place<'_> {
    Place {
        namespace: &seen.namespace,
        kind: OwnerKind::AIJobs,
        uid: &seen.uid,
    }
}
