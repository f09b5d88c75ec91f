//! The models on one device, up to a limit of bytes: the least recently used one goes first. Pure.

use super::verify::Sha256;

/// Weights that are loaded on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedWeights {
    /// The digest of their file.
    pub sha256: Sha256,
    /// What they take of the device's memory.
    pub bytes: u64,
}

/// Models by the digests of their files.
#[derive(Debug)]
pub struct LoadedModels<M> {
    /// The least recently used one first.
    models: Vec<(LoadedWeights, M)>,
    limit_bytes: u64,
}

impl<M: Clone> LoadedModels<M> {
    /// None are loaded. Several may stay as long as all together take no more bytes than this; one alone may take more.
    #[must_use]
    pub fn new(limit_bytes: u64) -> LoadedModels<M> {
        LoadedModels {
            models: Vec::new(),
            limit_bytes,
        }
    }

    /// The model of this file, which is used now.
    pub fn get(&mut self, sha256: Sha256) -> Option<M> {
        let mut models = self.models.iter();
        let index = models.position(|(weights, _)| weights.sha256 == sha256)?;
        let used = self.models.remove(index);
        let model = used.1.clone();
        self.models.push(used);
        Some(model)
    }

    /// Unloads models until one that takes so many bytes fits beside the others, or none is left. Whether any had to go.
    pub fn make_room(&mut self, bytes: u64) -> bool {
        let before = self.models.len();
        while !self.models.is_empty() && self.bytes().saturating_add(bytes) > self.limit_bytes {
            self.models.remove(0);
        }
        self.models.len() < before
    }

    /// Takes in a model that was loaded, as the one that was used last.
    pub fn insert(&mut self, weights: LoadedWeights, model: M) {
        self.models.push((weights, model));
    }

    /// Unloads all. Whether there were any.
    pub fn clear(&mut self) -> bool {
        let were_any = !self.models.is_empty();
        self.models.clear();
        were_any
    }

    /// What is loaded.
    #[must_use]
    pub fn weights(&self) -> Vec<LoadedWeights> {
        self.models.iter().map(|(weights, _)| *weights).collect()
    }

    fn bytes(&self) -> u64 {
        let bytes = self.models.iter().map(|(weights, _)| weights.bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Sha256 {
        Sha256::of(name.as_bytes()).expect("a digest")
    }

    /// Loads a model as the device does: from what is there, or after room was made.
    fn load(models: &mut LoadedModels<&'static str>, name: &'static str, bytes: u64) {
        let sha256 = digest(name);
        if models.get(sha256).is_none() {
            models.make_room(bytes);
            models.insert(LoadedWeights { sha256, bytes }, name);
        }
    }

    fn names(models: &LoadedModels<&'static str>) -> Vec<&'static str> {
        models.models.iter().map(|(_, name)| *name).collect()
    }

    #[test]
    fn the_least_recently_used_model_goes_first_and_no_more_than_must() {
        let mut models = LoadedModels::new(100);
        load(&mut models, "a", 40);
        load(&mut models, "b", 40);
        load(&mut models, "a", 40);
        load(&mut models, "c", 60);
        assert_eq!(names(&models), ["a", "c"]);
        load(&mut models, "d", 30);
        assert_eq!(names(&models), ["c", "d"]);
        let bytes = models.weights().iter().map(|weights| weights.bytes).sum();
        assert_eq!((models.bytes(), 90), (bytes, 90));
    }

    #[test]
    fn a_model_beyond_the_limit_is_loaded_alone() {
        let mut models = LoadedModels::new(100);
        load(&mut models, "a", 40);
        load(&mut models, "large", 400);
        assert_eq!(names(&models), ["large"]);
        load(&mut models, "a", 40);
        assert_eq!(names(&models), ["a"]);
        assert!(models.clear() && !models.clear());
    }

    #[test]
    fn with_no_room_for_several_the_last_one_stays() {
        let mut models = LoadedModels::new(0);
        load(&mut models, "a", 1);
        assert_eq!(names(&models), ["a"]);
        load(&mut models, "b", 1);
        assert_eq!(names(&models), ["b"]);
    }
}
