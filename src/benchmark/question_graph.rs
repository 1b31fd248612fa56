//! In: an item's questions in file order. Out: their dependency graph, valid by construction, with
//! the faults that were met. Whether a fault is an error or a warning is left to the loader.

mod without;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::question::{DeclaredParent, Question, QuestionId};

/// Why an edge of the file cannot stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphFault {
    /// Two questions of the item have one number. The later one cannot be told apart.
    DuplicateId,
    /// A `dependency` entry is not an integer.
    UnreadableParent(String),
    /// A parent number that no question of the item has.
    MissingParent(i64),
    /// This edge closes a cycle; the question numbers along it, starting at the child.
    Cycle(Vec<QuestionId>),
}

/// A fault and the position (in file order) of the question that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedFault {
    /// Index into [`QuestionGraph::questions`] as given to [`QuestionGraph::build`].
    pub question: usize,
    /// What is wrong.
    pub fault: GraphFault,
}

/// The questions of an item and who depends on whom. A graph that exists is acyclic, its numbers
/// are unique and its parents exist. It keeps the file order, which the reference protocol needs.
/// A question that names itself as its parent has no edge for it: that can change no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionGraph {
    questions: Vec<Question>,
    parents: Vec<Vec<usize>>,
    topological: Vec<usize>,
}

impl QuestionGraph {
    /// Builds the graph from every edge that can stand, in file order, and returns the faults of
    /// those that cannot. A later question with a number already taken is left out altogether.
    pub fn build(questions: Vec<Question>) -> (Self, Vec<LocatedFault>) {
        let mut faults = Vec::new();
        // As almost every item is numbered: a number tells the place without a table.
        let in_order = questions.iter().zip(1..).all(|(question, number)| question.id == number);
        let mut index_of: HashMap<QuestionId, usize> = HashMap::new();
        let mut kept: Vec<(usize, Question)> = Vec::with_capacity(questions.len());
        for (position, question) in questions.into_iter().enumerate() {
            if !in_order {
                match index_of.entry(question.id) {
                    Entry::Occupied(_) => {
                        let fault = GraphFault::DuplicateId;
                        faults.push(LocatedFault { question: position, fault });
                        continue;
                    }
                    Entry::Vacant(free) => free.insert(kept.len()),
                };
            }
            kept.push((position, question));
        }
        let place_of = |id: QuestionId| match in_order {
            true => (id as usize).checked_sub(1).filter(|&place| place < kept.len()),
            false => index_of.get(&id).copied(),
        };
        let mut parents: Vec<Vec<usize>> = Vec::with_capacity(kept.len());
        for (index, (position, question)) in kept.iter().enumerate() {
            let mut own = Vec::new();
            for declared in &question.declared_parents {
                let fault = match declared {
                    DeclaredParent::None => continue,
                    DeclaredParent::Unreadable(text) => GraphFault::UnreadableParent(text.clone()),
                    DeclaredParent::Id(id) => {
                        match QuestionId::try_from(*id).ok().and_then(place_of) {
                            None => GraphFault::MissingParent(*id),
                            Some(parent) => {
                                if parent != index && !own.contains(&parent) {
                                    own.push(parent);
                                }
                                continue;
                            }
                        }
                    }
                };
                faults.push(LocatedFault { question: *position, fault });
            }
            parents.push(own);
        }
        let topological = match topological_order(&parents) {
            Some(order) => order,
            None => {
                let dropped = drop_cycle_edges(&mut parents);
                for (child, cycle) in dropped {
                    faults.push(LocatedFault {
                        question: kept[child].0,
                        fault: GraphFault::Cycle(cycle.iter().map(|&i| kept[i].1.id).collect()),
                    });
                }
                topological_order(&parents).unwrap_or_default()
            }
        };
        let questions = kept.into_iter().map(|(_, question)| question).collect();
        (Self { questions, parents, topological }, faults)
    }

    /// The questions in file order.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Positions of the distinct parents of the question at `index`, in declared order.
    pub fn parents(&self, index: usize) -> &[usize] {
        &self.parents[index]
    }

    /// Positions of all questions above the question at `index`, each once, in file order.
    pub(crate) fn ancestors(&self, index: usize) -> Vec<usize> {
        let mut is_above = vec![false; self.len()];
        let mut open = self.parents(index).to_vec();
        while let Some(above) = open.pop() {
            if !std::mem::replace(&mut is_above[above], true) {
                open.extend_from_slice(self.parents(above));
            }
        }
        (0..self.len()).filter(|&place| is_above[place]).collect()
    }

    /// Positions of all questions, every parent before its children; ties in file order.
    pub fn topological_order(&self) -> &[usize] {
        &self.topological
    }

    /// Position of the question with this number.
    pub fn position(&self, id: QuestionId) -> Option<usize> {
        self.questions.iter().position(|question| question.id == id)
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether the item has no question.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }
}

/// Kahn's algorithm over file order; `None` when there is a cycle.
fn topological_order(parents: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut placed = vec![false; parents.len()];
    let mut order = Vec::with_capacity(parents.len());
    while order.len() < parents.len() {
        let before = order.len();
        for index in 0..parents.len() {
            if !placed[index] && parents[index].iter().all(|&parent| placed[parent]) {
                placed[index] = true;
                order.push(index);
            }
        }
        if order.len() == before {
            return None;
        }
    }
    Some(order)
}

/// Adds the edges back one by one in file order and leaves out each that would close a cycle. The official
/// file's five cycles are cut so (`docs/protocols.md` names the edges): of each, the edge in the last row goes.
fn drop_cycle_edges(parents: &mut [Vec<usize>]) -> Vec<(usize, Vec<usize>)> {
    let mut kept: Vec<Vec<usize>> = vec![Vec::new(); parents.len()];
    let mut dropped = Vec::new();
    for child in 0..parents.len() {
        for &parent in &parents[child] {
            // An edge child <- parent closes a cycle when the parent already descends from the child.
            match path_up(&kept, parent, child) {
                Some(mut path) => {
                    path.insert(0, child);
                    dropped.push((child, path));
                }
                None => kept[child].push(parent),
            }
        }
    }
    parents.clone_from_slice(&kept);
    dropped
}

/// The chain of parents that leads from `from` up to `to`, both included.
fn path_up(parents: &[Vec<usize>], from: usize, to: usize) -> Option<Vec<usize>> {
    let mut came_from = vec![usize::MAX; parents.len()];
    let mut stack = vec![from];
    came_from[from] = from;
    while let Some(node) = stack.pop() {
        if node == to {
            let mut path = vec![node];
            let mut at = node;
            while at != from {
                at = came_from[at];
                path.push(at);
            }
            path.reverse();
            return Some(path);
        }
        for &parent in &parents[node] {
            if came_from[parent] == usize::MAX {
                came_from[parent] = node;
                stack.push(parent);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::category::Category;
    use super::*;

    fn question(id: u32, dependency: &str) -> Question {
        Question {
            id,
            text: format!("Is there {id}?"),
            tuple: "entity - whole (x)".into(),
            category: Category::from_tuple("entity - whole (x)"),
            declared_parents: DeclaredParent::parse_cell(dependency),
            row: id as usize,
        }
    }

    fn build(rows: &[(u32, &str)]) -> (QuestionGraph, Vec<LocatedFault>) {
        QuestionGraph::build(
            rows.iter().map(|(id, dependency)| question(*id, dependency)).collect(),
        )
    }

    #[test]
    fn a_forward_reference_is_no_fault() {
        let (graph, faults) = build(&[(1, "2"), (2, "0"), (7, "1,2, 1")]);
        assert_eq!(faults, []);
        assert_eq!(graph.topological_order(), [1, 0, 2]);
        assert_eq!(graph.parents(2), [0, 1]);
    }

    #[test]
    fn every_bad_edge_is_named_and_left_out() {
        let (graph, faults) = build(&[(1, "1"), (2, "5, right"), (3, "9"), (3, "0"), (4, "-1")]);
        let named: Vec<_> = faults.iter().map(|f| (f.question, f.fault.clone())).collect();
        assert_eq!(
            named,
            [
                (3, GraphFault::DuplicateId),
                (1, GraphFault::MissingParent(5)),
                (1, GraphFault::UnreadableParent("right".into())),
                (2, GraphFault::MissingParent(9)),
                (4, GraphFault::MissingParent(-1)),
            ]
        );
        assert_eq!(graph.len(), 4);
        assert!((0..4).all(|index| graph.parents(index).is_empty()));
    }

    #[test]
    fn a_cycle_loses_only_the_edge_that_closes_it() {
        let (graph, faults) = build(&[(1, "3"), (2, "1"), (3, "2"), (4, "3")]);
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].question, 2);
        assert_eq!(faults[0].fault, GraphFault::Cycle(vec![3, 2, 1, 3]));
        assert_eq!(
            (graph.parents(0), graph.parents(1), graph.parents(2)),
            (&[2][..], &[0][..], &[][..])
        );
        assert_eq!(graph.topological_order(), [2, 3, 0, 1]);
    }
}
