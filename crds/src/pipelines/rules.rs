//! The CEL rules on a step that follow from the table of pipelines, and the schema of a step with those pipelines.
//!
//! What a rule may cost is limited: the API server adds up the worst case over all steps. Lists that are written out are cheap.

use serde_json::{Value, json};

use super::{Inputs, PIPELINES, PipelineSpec};

/// Keys of the rules in a schema.
const VALIDATIONS: &str = "x-kubernetes-validations";

/// Completes the schema of a step for the published pipelines: adds the rules, leaves out the members of the others.
pub(crate) fn complete_step(schema: &mut schemars::Schema) {
    let published: Vec<&PipelineSpec> = PIPELINES
        .iter()
        .copied()
        .filter(|spec| spec.is_published)
        .collect();
    if let Some(Value::Object(members)) = schema.get_mut("properties") {
        for spec in PIPELINES.iter().filter(|spec| !spec.is_published) {
            members.remove(spec.name);
        }
    }
    schema.insert(VALIDATIONS.to_owned(), Value::Array(rules(&published)));
}

/// Adds a pipeline to the schema of a step in a CRD, and the rules of all `pipelines`, which are the ones that it has then.
pub fn add_to_step(step: &mut Value, member: &str, parameters: Value, pipelines: &[&PipelineSpec]) {
    step["properties"][member] = parameters;
    step[VALIDATIONS] = Value::Array(rules(pipelines));
}

/// The rules on a step, with their messages.
#[must_use]
pub fn rules(pipelines: &[&PipelineSpec]) -> Vec<Value> {
    let members: Vec<String> = pipelines
        .iter()
        .map(|spec| format!("has(self.{})", spec.name))
        .collect();
    let names: Vec<&str> = pipelines.iter().map(|spec| spec.name).collect();
    let one = rule(
        &format!("[{}].filter(set, set).size() == 1", members.join(", ")),
        &format!(
            " must set exactly one pipeline; available: {}",
            names.join(", ")
        ),
    );
    let each = pipelines.iter().flat_map(|spec| of_pipeline(spec));
    std::iter::once(one).chain(each).collect()
}

fn of_pipeline(spec: &PipelineSpec) -> Vec<Value> {
    let name = spec.name;
    let of_this = |condition: &str, message: &str| {
        rule(
            &format!("!has(self.{name}) || ({condition})"),
            &format!(": {message}"),
        )
    };
    let (condition, message) = inputs(spec);
    let mut rules = vec![of_this(&condition, &message)];
    let base = spec
        .models
        .iter()
        .find(|role| role.name == super::BASE_MODEL);
    match base {
        Some(role) if role.is_required => rules.push(of_this(
            "has(self.model)",
            &format!("{name} needs a model; set model"),
        )),
        Some(_) => {}
        None => rules.push(of_this(
            "!has(self.model)",
            &format!("{name} takes no model; leave model out"),
        )),
    }
    rules.extend(
        spec.rules
            .iter()
            .map(|rule| of_this(rule.rule, rule.message)),
    );
    rules
}

/// What inputs a step of the pipeline must have, and the same as a sentence.
fn inputs(spec: &PipelineSpec) -> (String, String) {
    let name = spec.name;
    let slots = spec.inputs.slots();
    let words = |names: &[String], last: &str| match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    };
    if slots.is_empty() {
        return (
            "self.inputs.size() == 0".to_owned(),
            format!("{name} takes no input; leave inputs out"),
        );
    }
    match spec.inputs {
        Inputs::OneOf(slots) => {
            let quoted: Vec<String> = slots
                .iter()
                .map(|slot| format!("'{}'", slot.name))
                .collect();
            let names: Vec<String> = slots.iter().map(|slot| slot.name.to_owned()).collect();
            (
                format!(
                    "self.inputs.size() == 1 && self.inputs[0].name in [{}]",
                    quoted.join(", ")
                ),
                format!(
                    "{name} takes exactly one input, named {}; correct inputs",
                    words(&names, "or")
                ),
            )
        }
        Inputs::Each(slots) => {
            let is_of = |slot: &super::InputSlot| match slot.maximum {
                1 => format!("i.name == '{}'", slot.name),
                _ => format!("i.name.matches('^{}-[0-9]+$')", slot.name),
            };
            let known: Vec<String> = slots.iter().map(is_of).collect();
            let mut conditions = vec![format!("self.inputs.all(i, {})", known.join(" || "))];
            let mut takes = Vec::new();
            for slot in slots {
                let count = format!("self.inputs.filter(i, {}).size()", is_of(slot));
                conditions.push(format!(
                    "{count} >= {} && {count} <= {}",
                    slot.minimum, slot.maximum
                ));
                takes.push(match (slot.minimum, slot.maximum) {
                    (1, 1) => format!("one input named {}", slot.name),
                    (0, 1) => format!("at most one input named {}", slot.name),
                    (least, most) => format!(
                        "{least} to {most} inputs named {0}-0, {0}-1 and so on",
                        slot.name
                    ),
                });
            }
            (
                conditions.join(" && "),
                format!("{name} takes {}; correct inputs", words(&takes, "and")),
            )
        }
    }
}

fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "messageExpression": format!("'step ' + self.name + '{message}'")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_breaks_out_of_its_quotes() {
        for rule in rules(PIPELINES) {
            let message = rule["messageExpression"].as_str().expect("a message");
            assert_eq!(message.matches('\'').count(), 4, "{message}");
        }
    }
}
