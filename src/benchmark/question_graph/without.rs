//! In: a graph and the numbers of questions. Out: the graph as if these had never been asked: what depended on one of them
//! depends on its parents.

use std::collections::BTreeSet;

use super::{DeclaredParent, QuestionGraph, QuestionId, topological_order};

impl QuestionGraph {
    /// The graph without the questions `dropped`. For the questions below it, a dropped one is as good as a yes: they hang on
    /// the questions above it. The `dependency` cells are rewritten in the same way.
    pub fn without(&self, dropped: &BTreeSet<QuestionId>) -> Self {
        let is_kept = |place: usize| !dropped.contains(&self.questions[place].id);
        let kept: Vec<usize> = (0..self.len()).filter(|&place| is_kept(place)).collect();
        let mut new_place = vec![None; self.len()];
        for (new, &old) in kept.iter().enumerate() {
            new_place[old] = Some(new);
        }
        let parents: Vec<Vec<usize>> = kept
            .iter()
            .map(|&place| {
                let mut own: Vec<usize> = Vec::new();
                let mut open: Vec<usize> = self.parents(place).iter().rev().copied().collect();
                while let Some(above) = open.pop() {
                    match new_place[above] {
                        Some(new) if own.contains(&new) => {}
                        Some(new) => own.push(new),
                        // The graph has no cycle, so this ends.
                        None => open.extend(self.parents(above).iter().rev()),
                    }
                }
                own
            })
            .collect();
        let questions = kept.iter().map(|&place| {
            let mut question = self.questions[place].clone();
            question.declared_parents = self.declared(place, dropped);
            question
        });
        let questions = questions.collect();
        let topological = topological_order(&parents).unwrap_or_default();
        Self { questions, parents, topological }
    }

    /// The `dependency` cell of the question at `place`, with those of dropped parents in their place.
    fn declared(&self, place: usize, dropped: &BTreeSet<QuestionId>) -> Vec<DeclaredParent> {
        let mut entries = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open: Vec<&DeclaredParent> =
            self.questions[place].declared_parents.iter().rev().collect();
        while let Some(declared) = open.pop() {
            let above = match declared {
                DeclaredParent::Id(id) => QuestionId::try_from(*id).ok(),
                _ => None,
            };
            let above = above.filter(|id| dropped.contains(id)).and_then(|id| self.position(id));
            match above {
                None => entries.push(declared.clone()),
                // Cells may name each other in a circle.
                Some(above) if seen.insert(above) => {
                    open.extend(self.questions[above].declared_parents.iter().rev());
                }
                Some(_) => {}
            }
        }
        if entries.iter().any(|entry| *entry != DeclaredParent::None) {
            entries.retain(|entry| *entry != DeclaredParent::None);
        } else {
            entries = vec![DeclaredParent::None];
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Category, Question};
    use super::*;

    fn graph(rows: &[(u32, &str)]) -> QuestionGraph {
        let question = |(row, (id, dependency)): (usize, &(u32, &str))| Question {
            id: *id,
            text: String::new(),
            tuple: "entity (x)".into(),
            category: Category::from_tuple("entity (x)"),
            declared_parents: DeclaredParent::parse_cell(dependency),
            row: row + 2,
        };
        QuestionGraph::build(rows.iter().enumerate().map(question).collect()).0
    }

    /// Numbers of the questions, each with the numbers of its parents and with its cell.
    fn shown(graph: &QuestionGraph) -> Vec<(u32, Vec<u32>, String)> {
        let questions = graph.questions();
        let row = |(place, question): (usize, &Question)| {
            let parents = graph.parents(place).iter().map(|&parent| questions[parent].id);
            (question.id, parents.collect(), question.dependency())
        };
        questions.iter().enumerate().map(row).collect()
    }

    fn without(graph: &QuestionGraph, dropped: &[u32]) -> QuestionGraph {
        graph.without(&dropped.iter().copied().collect())
    }

    #[test]
    fn children_hang_on_the_parents_of_what_is_dropped() {
        let whole = graph(&[(1, "0"), (2, "1"), (3, "2"), (4, "2,1"), (5, "3,4"), (9, "8")]);
        let row = |id, parents: &[u32], cell: &str| (id, parents.to_vec(), cell.to_owned());
        let found = without(&whole, &[2]);
        assert_eq!(
            shown(&found),
            [
                row(1, &[], "0"),
                row(3, &[1], "1"),
                row(4, &[1], "1,1"),
                row(5, &[3, 4], "3,4"),
                row(9, &[], "8"),
            ]
        );
        assert_eq!(found.topological_order(), [0, 1, 2, 3, 4]);
        let rows: Vec<usize> = found.questions().iter().map(|question| question.row).collect();
        assert_eq!(rows, [2, 4, 5, 6, 7]);
        // Through several, and to none.
        let found = without(&whole, &[1, 2, 3]);
        assert_eq!(shown(&found), [row(4, &[], "0"), row(5, &[4], "4"), row(9, &[], "8")]);
        assert_eq!(shown(&without(&whole, &[])), shown(&whole));
        assert!(without(&whole, &[1, 2, 3, 4, 5, 9]).is_empty());
    }

    #[test]
    fn of_a_circle_the_same_edge_stays_left_out() {
        // 3 -> 2 closes the circle and is left out.
        let whole = graph(&[(1, "0"), (2, "3"), (3, "2"), (4, "3,1")]);
        let row = |id, parents: &[u32], cell: &str| (id, parents.to_vec(), cell.to_owned());
        assert_eq!(shown(&whole)[2], row(3, &[], "2"));
        let found = without(&whole, &[3]);
        // Question 2 names itself in its cell, which is no edge.
        assert_eq!(shown(&found), [row(1, &[], "0"), row(2, &[], "2"), row(4, &[1], "2,1")]);
        let found = without(&whole, &[2, 3]);
        assert_eq!(shown(&found), [row(1, &[], "0"), row(4, &[1], "1")]);
    }
}
