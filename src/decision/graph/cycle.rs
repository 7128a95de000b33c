//! Cycles in a graph of numbered nodes. The callers know what the numbers mean.

/// A cycle, if there is one: each node waits for the next, and the last for the first. `waits_for` has the dependencies of each
/// node.
///
/// Not recursive: a chain of dependencies may be as long as the graph.
pub(super) fn cycle(waits_for: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Never,
        OnTheWay,
        Done,
    }
    let mut visits = vec![Visit::Never; waits_for.len()];
    for start in 0..waits_for.len() {
        if visits[start] != Visit::Never {
            continue;
        }
        visits[start] = Visit::OnTheWay;
        // Each node on the path, and how many of its dependencies have been visited.
        let mut way = vec![(start, 0)];
        while let Some((at, looked_at)) = way.last_mut() {
            let at = *at;
            let Some(&next) = waits_for[at].get(*looked_at) else {
                visits[at] = Visit::Done;
                way.pop();
                continue;
            };
            *looked_at += 1;
            match visits[next] {
                Visit::Done => {}
                Visit::Never => {
                    visits[next] = Visit::OnTheWay;
                    way.push((next, 0));
                }
                Visit::OnTheWay => {
                    return Some(way.into_iter().map(|(at, _)| at).skip_while(|at| *at != next).collect());
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cycles_are_found_and_told_from_the_way_to_them() {
        assert_eq!(cycle(&[]), None);
        assert_eq!(cycle(&[vec![1, 2], vec![2], vec![]]), None);
        assert_eq!(cycle(&[vec![0]]), Some(vec![0]));
        assert_eq!(cycle(&[vec![1], vec![2], vec![3], vec![1]]), Some(vec![1, 2, 3]));
    }

    #[test]
    fn a_chain_may_be_long() {
        let mut chain: Vec<_> = (1..100_000).map(|next| vec![next]).collect();
        chain.push(vec![]);
        assert_eq!(cycle(&chain), None);
        chain[99_999].push(0);
        assert_eq!(cycle(&chain).map(|cycle| cycle.len()), Some(100_000));
    }

    proptest! {
        #[test]
        fn what_waits_only_for_later_things_has_no_cycle(edges in prop::collection::vec((0_usize..30, 0_usize..30), 0..90)) {
            let mut later = vec![vec![]; 31];
            for (a, b) in &edges {
                later[*a.min(b)].push(a.max(b) + 1);
            }
            prop_assert_eq!(cycle(&later), None);
            let mut any = vec![vec![]; 30];
            for (a, b) in &edges {
                any[*a].push(*b);
            }
            if let Some(cycle) = cycle(&any) {
                let next = |at: usize| cycle[(at + 1) % cycle.len()];
                prop_assert!((0..cycle.len()).all(|at| any[cycle[at]].contains(&next(at))));
            }
        }
    }
}
