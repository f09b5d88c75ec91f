//! What watches show: each change in its order, some late.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use framewright_core::engine::interface::{Change, Event, Read};
use framewright_core::names::ObjectName;
use kube_core::{Resource, ResourceExt};

use crate::api::{Cache, Labels, name_of};
use crate::world::World;

/// What operators of this version cannot read carries this annotation.
pub(crate) const UNREADABLE: &str = "somebody.example/newer";

pub(crate) fn is_unreadable<K: Resource>(object: &K) -> bool {
    object.annotations().contains_key(UNREADABLE)
}

pub(crate) fn object<K: Resource + Clone>(object: &Rc<K>) -> Read<K> {
    if is_unreadable(&**object) {
        return Read::Unreadable {
            name: name_of(&**object),
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().unwrap_or_default(),
            error: "it is of a newer version".to_owned(),
        };
    }
    Read::Object(Box::new((**object).clone()))
}

pub(crate) fn labels(namespaces: &BTreeMap<ObjectName, Rc<Labels>>) -> BTreeMap<String, Labels> {
    let namespaces = namespaces.iter();
    namespaces
        .map(|(name, labels)| (name.name.clone(), (**labels).clone()))
        .collect()
}

impl World {
    /// The watches show what has changed, each as far as it got.
    pub(crate) fn watch(&mut self, index: usize) {
        let lag = self.operators[index].jobs.lag(&self.api.jobs);
        for _ in 0..self.steps(lag) {
            if let Some((name, old, new)) = self.operators[index].jobs.follow(&self.api.jobs) {
                let uid = old.and_then(|old| old.uid());
                self.inform(index, Event::Job(change(name, uid, new)));
            }
        }
        let lag = self.operators[index].pools.lag(&self.api.pools);
        for _ in 0..self.steps(lag) {
            if let Some((name, old, new)) = self.operators[index].pools.follow(&self.api.pools) {
                let uid = old.and_then(|old| old.uid());
                self.inform(index, Event::Pool(change(name, uid, new)));
            }
        }
        let lag = self.operators[index].pods.lag(&self.api.pods);
        for _ in 0..self.steps(lag) {
            if let Some((name, old, new)) = self.operators[index].pods.follow(&self.api.pods) {
                let uid = old.and_then(|old| old.uid());
                self.inform(index, Event::Pod(change(name, uid, new)));
            }
        }
        let lag = self.operators[index].namespaces.lag(&self.api.namespaces);
        for _ in 0..self.steps(lag) {
            let namespaces = &self.api.namespaces;
            if let Some((name, _, new)) = self.operators[index].namespaces.follow(namespaces) {
                let name = name.name;
                let labels = new.map(|labels| (*labels).clone());
                self.inform(index, Event::Namespace { name, labels });
            }
        }
    }

    /// A watch breaks and lists anew, at an API server that lags: the list lacks the newest objects, and has some that are gone. What
    /// has happened since follows.
    pub(crate) fn relist(&mut self, index: usize) {
        self.note(|| format!("watches of operator {index} list anew"));
        let is_late = self.chance.percent(50);
        let lag = self.chance.between(0, if is_late { 12 } else { 2 });
        let lag = usize::try_from(lag).expect("few");
        match self.chance.between(0, 3) {
            0 => {
                let jobs = Cache::listed_late(&self.api.jobs, lag);
                let listed = jobs.objects.values().map(object).collect();
                let before = std::mem::replace(&mut self.operators[index].jobs, jobs);
                let lacks = lacks(&before, &self.operators[index].jobs);
                self.lists_without(index, &lacks);
                self.inform(index, Event::Job(Change::Listed(listed)));
            }
            1 => {
                let pools = Cache::listed_late(&self.api.pools, lag);
                let listed = pools.objects.values().map(object).collect();
                let before = std::mem::replace(&mut self.operators[index].pools, pools);
                let lacks = lacks(&before, &self.operators[index].pools);
                self.lists_without(index, &lacks);
                self.inform(index, Event::Pool(Change::Listed(listed)));
            }
            2 => {
                let pods = Cache::listed_late(&self.api.pods, lag);
                let listed = pods.objects.values().map(object).collect();
                self.operators[index].pods = pods;
                self.inform(index, Event::Pod(Change::Listed(listed)));
            }
            _ => {
                let namespaces = Cache::listed_late(&self.api.namespaces, lag / 6);
                let listed = labels(&namespaces.objects);
                self.operators[index].namespaces = namespaces;
                self.inform(index, Event::NamespacesListed(listed));
            }
        }
    }

    fn steps(&mut self, lag: usize) -> usize {
        if self.is_stormy() && self.chance.percent(30) {
            let most = i64::try_from(lag).expect("few");
            usize::try_from(self.chance.between(0, most)).expect("not negative")
        } else {
            lag
        }
    }
}

/// UIDs of the objects that a new list lacks.
fn lacks<K: Resource>(before: &Cache<K>, after: &Cache<K>) -> BTreeSet<String> {
    let uids = |cache: &Cache<K>| -> BTreeSet<String> {
        cache
            .objects
            .values()
            .filter_map(|object| object.uid())
            .collect()
    };
    &uids(before) - &uids(after)
}

fn change<K: Resource + Clone>(
    name: ObjectName,
    uid: Option<String>,
    new: Option<Rc<K>>,
) -> Change<K> {
    match new {
        Some(new) => Change::Applied(object(&new)),
        None => Change::Deleted {
            name,
            uid: uid.unwrap_or_default(),
        },
    }
}
