//! Cuboids: cells told apart by a few of their dimensions, and which of their elements may be named.

use std::collections::HashMap;

use super::Cube;

/// Cells of some dimensions, told apart by the values of a few of them.
#[derive(Debug, Clone)]
pub(super) struct Cuboid {
    pub dimensions: Vec<usize>,
    /// The element that each cell belongs to.
    pub of_cell: Vec<u32>,
    pub elements: usize,
    /// A cell of each element.
    pub examples: Vec<u32>,
    /// The cells, element by element, and where each element's begin.
    cells: Vec<u32>,
    begins: Vec<usize>,
    /// Elements that may be named.
    pub named: Vec<bool>,
}

impl Cuboid {
    /// All cuboids of one to `layers` dimensions, the coarse ones first, that have more than one element and no more than `most`.
    pub(super) fn all(dimensions: &[Vec<u32>], layers: usize, most: usize) -> Vec<Self> {
        let mut subsets: Vec<Vec<usize>> = (1_u32..1 << dimensions.len())
            .filter(|set| set.count_ones() as usize <= layers)
            .map(|set| (0..dimensions.len()).filter(|at| set & (1 << at) != 0).collect())
            .collect();
        subsets.sort_by_key(|subset: &Vec<usize>| (subset.len(), subset.clone()));
        let of = |subset: Vec<usize>| Self::of(dimensions, subset);
        subsets.into_iter().map(of).filter(|cuboid| (2..=most).contains(&cuboid.elements)).collect()
    }

    fn of(dimensions: &[Vec<u32>], subset: Vec<usize>) -> Self {
        let cells = dimensions.first().map_or(0, Vec::len);
        let (mut numbers, mut examples) = (HashMap::new(), Vec::new());
        let of_cell: Vec<u32> = (0..cells)
            .map(|cell| {
                let key: Vec<u32> = subset.iter().map(|at| dimensions[*at][cell]).collect();
                *numbers.entry(key).or_insert_with(|| {
                    examples.push(cell as u32);
                    examples.len() as u32 - 1
                })
            })
            .collect();
        let elements = examples.len();
        let mut begins = vec![0; elements + 1];
        of_cell.iter().for_each(|element| begins[*element as usize + 1] += 1);
        (0..elements).for_each(|element| begins[element + 1] += begins[element]);
        let (mut next, mut members) = (begins.clone(), vec![0; cells]);
        for (cell, element) in of_cell.iter().enumerate() {
            members[next[*element as usize]] = cell as u32;
            next[*element as usize] += 1;
        }
        Self { dimensions: subset, of_cell, elements, examples, cells: members, begins, named: vec![true; elements] }
    }

    /// How many cells of every element and part have a mark.
    fn counts(&self, marks: &[bool], parts: usize) -> Vec<u32> {
        let mut counts = vec![0; self.elements * parts];
        for (cell, element) in self.of_cell.iter().enumerate() {
            for part in 0..parts {
                counts[*element as usize * parts + part] += u32::from(marks[cell * parts + part]);
            }
        }
        counts
    }

    /// The cells of an element.
    pub(super) fn cells(&self, element: u32) -> &[u32] {
        &self.cells[self.begins[element as usize]..self.begins[element as usize + 1]]
    }

    /// The conditions of an element.
    pub(super) fn pattern(&self, dimensions: &[Vec<u32>], element: u32) -> Vec<(usize, u32)> {
        let example = self.examples[element as usize] as usize;
        self.dimensions.iter().map(|at| (*at, dimensions[*at][example])).collect()
    }
}

/// Says which elements may be named: no condition of theirs is unnamed, and neither they nor what is beside them where all but one of their
/// conditions hold tell of few.
pub(super) fn name(cuboids: &mut [Cuboid], cube: &Cube, marks: &[Vec<bool>], fewest: usize) {
    // By cuboid, how many cells of an element and part have each mark.
    let counts: Vec<Vec<Vec<u32>>> =
        cuboids.iter().map(|cuboid| marks.iter().map(|marks| cuboid.counts(marks, cube.parts)).collect()).collect();
    let parts = |element: usize| element * cube.parts..(element + 1) * cube.parts;
    let of_part = |marks: &Vec<bool>, part| marks.iter().skip(part).step_by(cube.parts).filter(|mark| **mark).count();
    let whole: Vec<Vec<u32>> =
        marks.iter().map(|marks| (0..cube.parts).map(|part| of_part(marks, part) as u32).collect()).collect();
    let few = |n: usize| n > 0 && n < fewest;
    let mut named: Vec<Vec<bool>> = Vec::new();
    for (at, cuboid) in cuboids.iter().enumerate() {
        let above: Vec<Option<usize>> = (0..cuboid.dimensions.len())
            .map(|left_out| {
                let mut dimensions = cuboid.dimensions.clone();
                dimensions.remove(left_out);
                cuboids.iter().position(|other| other.dimensions == dimensions)
            })
            .collect();
        let may = |element: usize| {
            let pattern = cuboid.pattern(&cube.dimensions, element as u32);
            let example = cuboid.examples[element] as usize;
            let mut some = false;
            for (mark, of) in counts[at].iter().enumerate() {
                let own = &of[parts(element)];
                let n = own.iter().filter(|n| **n > 0).count();
                some |= n >= fewest;
                let beside = above.iter().any(|above| {
                    let of_above = match above {
                        Some(above) => &counts[*above][mark][parts(cuboids[*above].of_cell[example] as usize)],
                        None => &whole[mark],
                    };
                    few(own.iter().zip(of_above).filter(|(own, all)| all > own).count())
                });
                if few(n) || beside {
                    return false;
                }
            }
            some && pattern.iter().all(|(dimension, value)| !cube.unnamed[*dimension].contains(value))
        };
        named.push((0..cuboid.elements).map(may).collect());
    }
    cuboids.iter_mut().zip(named).for_each(|(cuboid, named)| cuboid.named = named);
}

/// Whether what some cells tell is of a few parts.
pub(super) fn tells_of_few(marks: &[Vec<bool>], parts: usize, cells: &[usize], fewest: usize) -> bool {
    marks.iter().any(|marks| {
        let there = |part: &usize| cells.iter().any(|cell| marks[cell * parts + part]);
        let n = (0..parts).filter(there).count();
        n > 0 && n < fewest
    })
}

/// An element of a cuboid, by their places.
pub(super) type Element = (usize, u32);

/// The place of an element among those of all cuboids.
pub(super) fn place(cuboids: &[Cuboid], element: Element) -> usize {
    cuboids[..element.0].iter().map(|cuboid| cuboid.elements).sum::<usize>() + element.1 as usize
}
