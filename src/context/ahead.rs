//! Processes items ahead of their use, on several threads, and passes on the results in order: for example, it finds, opens and
//! reads files while the files before them are hashed. The caller defines the work and what to do with its results.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Builder, available_parallelism, scope};

/// More threads do not help: the consumer of the results is the bottleneck then.
const MOST_THREADS: usize = 4;

/// How many batches per thread may be in progress or complete, so that no thread waits for the consumer.
const AHEAD: usize = 2;

/// A batch of items, and where to send the results.
type Job<'i, I, T> = (&'i [I], SyncSender<Vec<T>>);

/// Splits items into batches of at most `most` items; each batch ends with the item that brings its weight to `heavy`.
pub(crate) fn batches<I>(items: &[I], most: usize, heavy: u64, weight: impl Fn(&I) -> u64) -> Vec<&[I]> {
    let (mut batches, mut rest) = (Vec::new(), items);
    while !rest.is_empty() {
        let mut total = 0_u64;
        let reaches = |item: &I| {
            total = total.saturating_add(weight(item));
            total >= heavy
        };
        let end = rest.iter().take(most).position(reaches).map_or(most.min(rest.len()), |last| last + 1);
        let (batch, others) = rest.split_at(end);
        batches.push(batch);
        rest = others;
    }
    batches
}

/// Calls `work` for each item, and passes each item and its result to `take`, in the order of the items. Only a few batches are
/// complete but not yet taken, so memory is bounded by their weight. It stops at the first error of `take`.
pub(crate) fn ahead<I: Sync, T: Send, E>(
    batches: &[&[I]],
    work: impl Fn(&I) -> T + Sync,
    mut take: impl FnMut(&I, T) -> Result<(), E>,
) -> Result<(), E> {
    // A single batch takes less time than starting a thread.
    let threads = if batches.len() < 2 { 0 } else { available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS) };
    let (jobs, queue) = channel::<Job<'_, I, T>>();
    let queue = Mutex::new(queue);
    scope(|scope| {
        // Moved into the scope, so that the threads see the end of the jobs however the scope ends.
        let jobs = jobs;
        let worker = || {
            while let Some((batch, sender)) = next(&queue) {
                // If the receiver is gone, the results are not needed.
                let _ = sender.send(batch.iter().map(&work).collect());
            }
        };
        let spawn = || Builder::new().name("ahead".to_owned()).spawn_scoped(scope, worker);
        let spawned = (0..threads).map_while(|_| spawn().ok()).count();
        let (mut under_way, mut coming) = (VecDeque::new(), batches.iter());
        loop {
            while under_way.len() < spawned * AHEAD
                && let Some(batch) = coming.next()
            {
                let (sender, results) = sync_channel(1);
                let _ = jobs.send((batch, sender));
                under_way.push_back((*batch, results));
            }
            if let Some((batch, results)) = under_way.pop_front() {
                // Results are missing only if the thread has panicked, which the scope propagates.
                let results = results.recv().unwrap_or_default();
                batch.iter().zip(results).try_for_each(|(item, result)| take(item, result))?;
            } else if let Some(batch) = coming.next() {
                // No thread could be started.
                batch.iter().try_for_each(|item| take(item, work(item)))?;
            } else {
                return Ok(());
            }
        }
    })
}

fn next<'i, I, T>(queue: &Mutex<Receiver<Job<'i, I, T>>>) -> Option<Job<'i, I, T>> {
    queue.lock().ok()?.recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_end_where_they_are_full_or_heavy() {
        let items = [1, 1, 1, 1, 50, 1, 99, 2];
        let cut = |most, heavy| batches(&items, most, heavy, |item| *item).iter().map(|b| b.len()).collect::<Vec<_>>();
        assert_eq!(cut(3, 1000), [3, 3, 2]);
        assert_eq!(cut(8, 50), [5, 2, 1]);
        assert_eq!(cut(1, 1), [1; 8]);
        assert_eq!(batches(&[0; 0], 3, 10, |_| 1), [&[0; 0]; 0]);
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        for most in [1, 7, 1000, 2000] {
            let (batches, mut taken) = (batches(&items, most, u64::MAX, |_| 1), Vec::new());
            let take = |item: &usize, double| {
                taken.push((*item, double));
                Ok::<_, ()>(())
            };
            ahead(&batches, |item| item * 2, take).unwrap();
            assert_eq!(taken, items.iter().map(|item| (*item, item * 2)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_is_the_end() {
        let items: Vec<usize> = (0..1000).collect();
        let mut taken = 0;
        let take = |item: &usize, ()| {
            taken += 1;
            if *item == 137 { Err(*item) } else { Ok(()) }
        };
        assert_eq!(ahead(&batches(&items, 10, u64::MAX, |_| 1), |_| (), take), Err(137));
        assert_eq!(taken, 138);
    }
}
