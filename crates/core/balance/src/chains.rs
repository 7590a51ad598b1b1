//! Lists through a slab: each element stands in at most one of several lists, and every step is O(1).
//!
//! What ages in a list with one fixed span stands in the order of its deadlines, so the front is always the next.

/// No element, no list.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    before: u32,
    after: u32,
    list: u32,
}

const LOOSE: Node = Node { before: NONE, after: NONE, list: NONE };

/// The lists. Bound: one node (12 bytes) for the greatest element ever put in.
#[derive(Debug)]
pub(crate) struct Chains {
    nodes: Vec<Node>,
    ends: Vec<(u32, u32)>,
}

impl Chains {
    pub(crate) fn new(lists: usize) -> Self {
        Self { nodes: Vec::new(), ends: vec![(NONE, NONE); lists] }
    }

    /// Puts `element` at the end of `list`, wherever it was before.
    pub(crate) fn push(&mut self, list: usize, element: usize) {
        self.remove(element);
        if self.nodes.len() <= element {
            self.nodes.resize(element + 1, LOOSE);
        }
        let last = self.ends[list].1;
        self.nodes[element] = Node { before: last, after: NONE, list: list as u32 };
        match last {
            NONE => self.ends[list].0 = element as u32,
            last => self.nodes[last as usize].after = element as u32,
        }
        self.ends[list].1 = element as u32;
    }

    /// Takes `element` out of its list, if it is in one.
    pub(crate) fn remove(&mut self, element: usize) {
        let Some(node) = self.nodes.get_mut(element) else { return };
        let Node { before, after, list } = core::mem::replace(node, LOOSE);
        if list == NONE {
            return;
        }
        match before {
            NONE => self.ends[list as usize].0 = after,
            before => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => self.ends[list as usize].1 = before,
            after => self.nodes[after as usize].before = before,
        }
    }

    /// The element that has been in `list` longest.
    pub(crate) fn front(&self, list: usize) -> Option<usize> {
        let first = self.ends[list].0;
        (first != NONE).then_some(first as usize)
    }

    /// The list that `element` is in.
    pub(crate) fn list_of(&self, element: usize) -> Option<usize> {
        self.nodes.get(element).filter(|node| node.list != NONE).map(|node| node.list as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_forgets_nothing() {
        let mut chains = Chains::new(2);
        for element in [3, 1, 2] {
            chains.push(0, element);
        }
        chains.push(1, 1);
        assert_eq!((chains.front(0), chains.front(1), chains.list_of(1)), (Some(3), Some(1), Some(1)));
        chains.push(0, 3);
        assert_eq!(chains.front(0), Some(2));
        chains.remove(2);
        chains.remove(2);
        assert_eq!(chains.front(0), Some(3));
        chains.remove(3);
        assert_eq!((chains.front(0), chains.list_of(3)), (None, None));
    }
}
