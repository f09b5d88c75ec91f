//! CEL rules that are too long to stand beside the type they are about.
//!
//! The API server adds up what a rule could cost at most, and refuses a CRD whose rules could cost too much. It knows the sizes of
//! the lists in the schema and of a list that is written out, and assumes the worst of everything that is computed. So these rules
//! count through written-out positions, where `map` and `indexOf` would be shorter and refused.

/// The positions of [`crate::aijob::MAX_STEPS`] steps.
macro_rules! step_positions {
    () => {
        "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49]"
    };
}

/// The positions of [`crate::aijob::MAX_OUTPUTS`] outputs.
macro_rules! output_positions {
    () => {
        "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]"
    };
}

/// Whether step j takes an input from a step that does not come before it.
macro_rules! refers_forward {
    () => {
        concat!(
            "j < self.steps.size() && self.steps[j].inputs.exists(i, has(i.fromStep) && !",
            step_positions!(),
            ".exists(k, k < j && self.steps[k].name == i.fromStep.name))"
        )
    };
}

/// Every step refers to earlier ones only.
pub(crate) const STEPS_REFER_BACKWARD: &str = concat!(
    "!",
    step_positions!(),
    ".exists(j, ",
    refers_forward!(),
    ")"
);

/// Says which step does not.
pub(crate) const STEPS_REFER_BACKWARD_MESSAGE: &str = concat!(
    "'spec.steps: step ' + self.steps[",
    step_positions!(),
    ".filter(j, ",
    refers_forward!(),
    ")[0]].name + ' takes an input from a step that does not come before it in the list; a step may refer to earlier steps only, so move that step up or correct inputs[].fromStep.name'"
);

/// Every output names a step.
pub(crate) const OUTPUTS_NAME_STEPS: &str =
    "!has(self.outputs) || self.outputs.all(o, self.steps.exists(s, s.name == o.fromStep.name))";

/// Says which output does not.
pub(crate) const OUTPUTS_NAME_STEPS_MESSAGE: &str = concat!(
    "'spec.outputs: output ' + self.outputs[",
    output_positions!(),
    ".filter(j, j < self.outputs.size() && !self.steps.exists(s, s.name == self.outputs[j].fromStep.name))[0]].name + ' names a step that spec.steps does not have; correct outputs[].fromStep.name'"
);

#[cfg(test)]
mod tests {
    use crate::aijob::{MAX_OUTPUTS, MAX_STEPS};

    #[test]
    fn the_positions_are_those_of_the_longest_lists() {
        let up_to = |count: usize| {
            let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            format!("[{}]", numbers.join(", "))
        };
        assert_eq!(step_positions!(), up_to(MAX_STEPS));
        assert_eq!(output_positions!(), up_to(MAX_OUTPUTS));
    }
}
