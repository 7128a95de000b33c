//! The order of several builds: what needs others comes after them, and what does not is done side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::warn;

use super::CommandError;
use crate::context::ImageName;
use crate::report::ErrorChain;

/// What came of several builds, by their numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ordered<T, E> {
    /// Those that succeeded.
    pub(super) done: BTreeMap<usize, T>,
    /// Those that failed, in the order of time.
    pub(super) failed: Vec<Failed<E>>,
    /// Those that were not begun.
    pub(super) left: BTreeSet<usize>,
}

/// A build that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed<E> {
    /// Its number.
    pub(super) number: usize,
    /// Why.
    pub(super) error: E,
}

impl<T> Ordered<T, CommandError> {
    /// What was done, or the first failure; logs the others, and what was not begun. `names` are those of the images.
    pub(super) fn into_result(self, names: &[&ImageName]) -> Result<Vec<T>, CommandError> {
        if !self.left.is_empty() {
            let left: Vec<_> = self.left.iter().map(|number| names[*number].as_str()).collect();
            warn!("not built: {}", left.join(", "));
        }
        let mut failed = self.failed.into_iter();
        let Some(Failed { number, error }) = failed.next() else { return Ok(self.done.into_values().collect()) };
        for Failed { number, error } in failed.filter(|it| !matches!(it.error, CommandError::Stopped { .. })) {
            warn!("{} failed, too: {}", names[number], ErrorChain(&error));
        }
        match error {
            // What stops one stops all.
            error @ CommandError::Stopped { .. } => Err(error),
            error if names.len() == 1 => Err(error),
            error => Err(CommandError::OneOfSeveral { image: names[number].clone(), error: Box::new(error) }),
        }
    }
}

/// Does the work of each number, `jobs` at once, each after those that it needs. After a failure nothing is begun any more, and
/// what is under way goes on to its end.
///
/// `needs` has for each number the numbers that it needs, which are smaller.
pub(super) async fn in_order<T, E>(
    needs: &[Vec<usize>],
    jobs: NonZeroUsize,
    work: impl AsyncFn(usize) -> Result<T, E>,
) -> Ordered<T, E> {
    let mut ordered = Ordered { done: BTreeMap::new(), failed: Vec::new(), left: (0..needs.len()).collect() };
    let mut running = FuturesUnordered::new();
    let work = &work;
    loop {
        while ordered.failed.is_empty() && running.len() < jobs.get() {
            let is_ready = |number: &usize| needs[*number].iter().all(|need| ordered.done.contains_key(need));
            let Some(number) = ordered.left.iter().copied().find(is_ready) else { break };
            ordered.left.remove(&number);
            running.push(async move { Numbered { number, outcome: work(number).await } });
        }
        match running.next().await {
            Some(Numbered { number, outcome: Ok(done) }) => drop(ordered.done.insert(number, done)),
            Some(Numbered { number, outcome: Err(error) }) => ordered.failed.push(Failed { number, error }),
            None => return ordered,
        }
    }
}

struct Numbered<O> {
    number: usize,
    outcome: O,
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::job::shutdown::ShutdownReason;

    const FOUR: [&[usize]; 4] = [&[], &[0], &[], &[1, 2]];

    fn needs() -> Vec<Vec<usize>> {
        FOUR.iter().map(|needs| needs.to_vec()).collect()
    }

    #[tokio::test]
    async fn what_is_needed_is_done_before_and_the_rest_side_by_side() {
        for jobs in 1..4 {
            let (running, most, ended) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::new()));
            let work = async |number: usize| {
                assert!(needs()[number].iter().all(|need| ended.borrow().contains(need)), "{number} is too early");
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                tokio::task::yield_now().await;
                running.set(running.get() - 1);
                ended.borrow_mut().push(number);
                Ok::<_, ()>(number)
            };
            let ordered = in_order(&needs(), NonZeroUsize::new(jobs).unwrap(), work).await;
            assert_eq!(ordered.done.into_values().collect::<Vec<_>>(), [0, 1, 2, 3]);
            // Never more than two have what they need.
            assert_eq!(most.get(), jobs.min(2));
        }
    }

    #[test]
    fn a_failure_names_its_image_where_there_are_several() {
        let names: Vec<ImageName> = ["a", "b"].map(|name| name.parse().unwrap()).into();
        let line = |names: &[&ImageName], error| {
            let failed = vec![Failed { number: names.len() - 1, error }];
            let ordered = Ordered::<usize, _> { done: BTreeMap::new(), failed, left: BTreeSet::new() };
            ordered.into_result(names).unwrap_err().to_string()
        };
        let broken = || CommandError::NoImage { what: "broken".to_owned(), hint: "look" };
        assert_eq!(line(&[&names[0]], broken()), "broken; look");
        assert_eq!(line(&[&names[0], &names[1]], broken()), "b: broken; look");
        let stopped = CommandError::Stopped { reason: ShutdownReason::Terminated, stage: "building" };
        assert!(line(&[&names[0], &names[1]], stopped).starts_with("SIGTERM while building"));
    }

    #[tokio::test]
    async fn after_a_failure_only_what_is_under_way_goes_on() {
        let work = async |number: usize| {
            if number == 0 {
                return Err("broken");
            }
            tokio::task::yield_now().await;
            Ok(number)
        };
        let ordered = in_order(&needs(), NonZeroUsize::new(2).unwrap(), work).await;
        assert_eq!(ordered.failed, [Failed { number: 0, error: "broken" }]);
        assert_eq!(ordered.done, [(2, 2)].into());
        assert_eq!(ordered.left, [1, 3].into());
    }
}
