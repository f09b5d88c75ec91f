//! Links for uploads and results: which there are, and when new ones are made.

use std::collections::BTreeSet;

use framewright_crds::aijob::{
    AIJobStatus, JobOutput, OutputRole, OutputStatus, StepOutput, StepStatus,
};
use framewright_crds::file_names;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::inputs;
use crate::jobs::snapshot::Snapshot;
use crate::links::{Known, Place, Signer, Wanted, expiry};

/// Sets `status.files`: one entry for each file that the spec names, with a link until it has come.
pub fn files(snapshot: &Snapshot, status: &mut AIJobStatus, signer: &dyn Signer) {
    let place = snapshot.place();
    let inputs = snapshot
        .spec
        .steps
        .iter()
        .flat_map(|step| step.inputs.iter().map(move |input| (step, input)));
    let files = inputs.filter_map(|(step, input)| {
        let upload = input.upload.as_ref()?;
        Some(Wanted {
            name: inputs::file_name(step, input),
            digest: &upload.digest,
            bytes: upload.bytes,
        })
    });
    let renew = crate::links::is_renewal_due(
        snapshot.renew_links.as_deref(),
        status.links_renewed_for.as_deref(),
    );
    let known = Known {
        old: &status.files,
        received: &snapshot.received,
        renew,
        now: snapshot.now,
    };
    let sign = |sha256: &str, bytes: i64, expires| signer.upload(&place, sha256, bytes, expires);
    status.files = crate::links::entries(files, &known, &sign);
    if renew {
        status.links_renewed_for.clone_from(&snapshot.renew_links);
    }
}

/// Sets `status.outputs`, with new links.
pub fn results(snapshot: &Snapshot, status: &mut AIJobStatus, signer: &dyn Signer) {
    let place = snapshot.place();
    let outputs = snapshot.spec.published().into_iter().flat_map(|wanted| {
        let mut steps = status.steps.iter();
        let maker = steps.find(|step| step.name == wanted.from_step.name);
        maker.map_or_else(Vec::new, |maker| published(&wanted, maker))
    });
    let mut names = BTreeSet::new();
    let outputs = outputs.filter_map(|mut output| {
        // A step's several results may be called as another step is.
        while !names.insert(output.name.clone()) {
            output.name.push_str("-2");
        }
        let expires = expiry(snapshot.now)?;
        link(snapshot, &place, &mut output, expires, signer);
        Some(output)
    });
    status.outputs = outputs.collect();
    status.links_renewed_for.clone_from(&snapshot.renew_links);
}

/// What a job publishes of a step: the output that it names, or else all its results. Of several each has its own name, too.
fn published(wanted: &JobOutput, maker: &StepStatus) -> Vec<OutputStatus> {
    let is_wanted = |output: &&StepOutput| match &wanted.from_step.output {
        Some(name) => &output.name == name,
        None => output.role == OutputRole::Result,
    };
    let outputs: Vec<&StepOutput> = maker.outputs.iter().filter(is_wanted).collect();
    let is_one = outputs.len() == 1;
    let outputs = outputs.into_iter().map(|output| OutputStatus {
        name: if is_one {
            wanted.name.clone()
        } else {
            format!("{}-{}", wanted.name, output.name)
        },
        step: maker.name.clone(),
        output: output.name.clone(),
        digest: output.digest.clone(),
        media_type: output.media_type.clone(),
        bytes: output.bytes,
        link: None,
        expires_at: None,
    });
    outputs.collect()
}

/// Makes new links for a job that is over.
pub fn renew(snapshot: &Snapshot, status: &mut AIJobStatus, signer: &dyn Signer) {
    let Some(expires) = expiry(snapshot.now) else {
        return;
    };
    let place = snapshot.place();
    for output in &mut status.outputs {
        link(snapshot, &place, output, expires, signer);
    }
    status.links_renewed_for.clone_from(&snapshot.renew_links);
}

fn link(
    snapshot: &Snapshot,
    place: &Place<'_>,
    output: &mut OutputStatus,
    expires: Timestamp,
    signer: &dyn Signer,
) {
    let extension = file_names::extension(&output.media_type);
    let file_name = file_names::result(&snapshot.name, &output.name, extension);
    output.link = Some(signer.download(place, output, &file_name, expires));
    output.expires_at = Some(Time(expires));
}
