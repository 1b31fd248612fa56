//! In: the verdicts of one image before the dependency rule. Out: the verdicts after it, under
//! either protocol. What they add up to is left to `item_score`.

use crate::benchmark::{DeclaredParent, QuestionGraph, QuestionId};

use super::verdict::Verdict;

/// Where the reference script stops on an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AbsentParent {
    /// The question whose parent was looked up.
    pub question: QuestionId,
    /// The number that no question has that the script read.
    pub parent: i64,
}

/// The rule as the reference script runs it: questions in file order, on the scores that it is
/// editing, so that a failure reaches a grandchild only where the child stands before it. A look at
/// the parents stops at the first that counts as 0.
///
/// `raw` has one verdict per question of the graph, in file order.
///
/// # Errors
/// A parent was looked up that no question has (Python's `KeyError`).
pub(crate) fn in_file_order(
    graph: &QuestionGraph,
    raw: &[Verdict],
) -> Result<Vec<Verdict>, AbsentParent> {
    let mut ruled = raw.to_vec();
    for (index, question) in graph.questions().iter().enumerate() {
        if ruled[index] == Verdict::Skipped {
            continue;
        }
        for declared in &question.declared_parents {
            let DeclaredParent::Id(parent) = *declared else { continue };
            let position = QuestionId::try_from(parent)
                .ok()
                .and_then(|id| graph.position(id))
                .filter(|&position| ruled[position] != Verdict::Skipped);
            let Some(position) = position else {
                return Err(AbsentParent { question: question.id, parent });
            };
            // A question's look at itself can only find what it is already.
            if position != index && ruled[position] != Verdict::Yes {
                ruled[index] = Verdict::ParentNo;
                break;
            }
        }
    }
    Ok(ruled)
}

/// The rule in topological order: a failure reaches every descendant, and of shares every ancestor's is multiplied, each
/// once. A question is `Missing` when it has no answer itself, or when no parent fails but one is `Missing`: whether it counts
/// cannot be known then.
///
/// `raw` has one verdict per question of the graph, in file order.
pub fn in_topological_order(graph: &QuestionGraph, raw: &[Verdict]) -> Vec<Verdict> {
    let mut ruled = raw.to_vec();
    for &index in graph.topological_order() {
        if raw[index].weight().is_none() {
            continue;
        }
        let parents = graph.parents(index);
        if parents.iter().any(|&parent| ruled[parent].weight() == Some(0.0)) {
            ruled[index] = Verdict::ParentNo;
        } else if parents.iter().any(|&parent| ruled[parent].weight().is_none()) {
            ruled[index] = Verdict::Missing;
        } else if let Verdict::Share(own) = raw[index] {
            // None of the ancestors is missing, else a parent were.
            let above = graph.ancestors(index).into_iter().filter_map(|above| raw[above].weight());
            ruled[index] = Verdict::Share(above.fold(own, |product, share| product * share));
        }
    }
    ruled
}

#[cfg(test)]
mod tests {
    use super::super::test_graphs::graph;
    use super::*;
    use crate::score::verdict::Verdict::{Missing, No, ParentNo, Share, Skipped, Unparsable, Yes};

    #[test]
    fn a_failure_reaches_a_grandchild_only_as_far_as_the_rows_let_it() {
        // 1 hangs on 2, 2 on 3: the grandchild's row stands first.
        let forward = graph(&[(1, "2"), (2, "3"), (3, "0")]);
        let raw = [Yes, Yes, No];
        assert_eq!(in_file_order(&forward, &raw).unwrap(), [Yes, ParentNo, No]);
        assert_eq!(in_topological_order(&forward, &raw), [ParentNo, ParentNo, No]);
        let backward = graph(&[(1, "0"), (2, "1"), (3, "2")]);
        assert_eq!(in_file_order(&backward, &[No, Yes, Yes]).unwrap(), [No, ParentNo, ParentNo]);
    }

    #[test]
    fn a_missing_parent_raises_only_where_the_look_reaches_it() {
        let absent = graph(&[(1, "0"), (2, "1,9")]);
        assert_eq!(in_file_order(&absent, &[No, Yes]).unwrap(), [No, ParentNo]);
        assert_eq!(
            in_file_order(&absent, &[Yes, Yes]),
            Err(AbsentParent { question: 2, parent: 9 })
        );
        // The same with a parent that stands in the skipped row.
        assert_eq!(
            in_file_order(&absent, &[Skipped, Yes]),
            Err(AbsentParent { question: 2, parent: 1 })
        );
    }

    #[test]
    fn loops_follow_the_edited_scores() {
        let looped = graph(&[(1, "1"), (2, "3"), (3, "2")]);
        assert_eq!(in_file_order(&looped, &[No, Yes, No]).unwrap(), [No, ParentNo, ParentNo]);
        assert_eq!(in_file_order(&looped, &[Yes, Yes, Yes]).unwrap(), [Yes, Yes, Yes]);
    }

    #[test]
    fn a_question_that_depends_on_itself_keeps_its_verdict() {
        let looped = graph(&[(1, "0"), (2, "2,1"), (3, "1,3")]);
        for raw in [[Yes, No, Yes], [Yes, Unparsable, No], [Yes, Yes, Unparsable]] {
            assert_eq!(in_file_order(&looped, &raw).unwrap(), raw);
            assert_eq!(in_topological_order(&looped, &raw), raw);
        }
        let fallen = [No, ParentNo, ParentNo];
        assert_eq!(in_file_order(&looped, &[No, Yes, No]).unwrap(), fallen);
        assert_eq!(in_topological_order(&looped, &[No, Yes, No]), fallen);
    }

    #[test]
    fn an_unanswered_parent_leaves_its_children_open() {
        let graph = graph(&[(1, "0"), (2, "1"), (3, "1,4"), (4, "0")]);
        let raw = [Missing, Yes, Yes, Unparsable];
        assert_eq!(in_topological_order(&graph, &raw), [Missing, Missing, ParentNo, Unparsable]);
    }

    #[test]
    fn shares_are_multiplied_with_each_ancestors_once() {
        // 4 hangs on 2 and 3, and by both on 1.
        let diamond = graph(&[(4, "2,3"), (1, "0"), (2, "1"), (3, "1")]);
        let raw = [Share(0.5), Share(0.5), Share(0.25), Share(0.125)];
        let by_hand = [Share(0.007_812_5), Share(0.5), Share(0.125), Share(0.0625)];
        assert_eq!(in_topological_order(&diamond, &raw), by_hand);
        let open = [Share(0.5), Share(0.5), Share(0.25), Missing];
        let by_hand = [Missing, Share(0.5), Share(0.125), Missing];
        assert_eq!(in_topological_order(&diamond, &open), by_hand);
        let failed = [Share(0.5), Share(0.5), Share(0.0), Missing];
        let by_hand = [ParentNo, Share(0.5), Share(0.0), Missing];
        assert_eq!(in_topological_order(&diamond, &failed), by_hand);
    }
}
