//! Rows of finite numbers.

/// n × d doubles, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f64>,
}

/// Why numbers make no matrix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// The number of values is not rows × columns.
    #[error("{values} values do not make {rows} rows of {cols}")]
    Shape {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Values given.
        values: usize,
    },
    /// A value is infinite or not a number.
    #[error("the value in row {row}, column {col} is not finite")]
    NotFinite {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        col: usize,
    },
}

impl Matrix {
    /// A matrix of finite values, row by row.
    ///
    /// # Errors
    /// When the shape does not fit or a value is not finite.
    pub fn new(rows: usize, cols: usize, data: Vec<f64>) -> Result<Self, MatrixError> {
        if data.len() != rows * cols {
            return Err(MatrixError::Shape { rows, cols, values: data.len() });
        }
        if let Some(at) = data.iter().position(|x| !x.is_finite()) {
            return Err(MatrixError::NotFinite { row: at / cols, col: at % cols });
        }
        Ok(Self { rows, cols, data })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// A row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// All values, row by row.
    #[must_use]
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// The columns, each contiguous.
    #[must_use]
    pub fn columns(&self) -> Vec<Vec<f64>> {
        (0..self.cols).map(|c| (0..self.rows).map(|r| self.data[r * self.cols + c]).collect()).collect()
    }

    /// The rows of the given numbers, in that order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let data = rows.iter().flat_map(|r| self.row(*r)).copied().collect();
        Self { rows: rows.len(), cols: self.cols, data }
    }

    /// The columns of the given numbers, in that order.
    #[must_use]
    pub fn narrowed(&self, columns: &[usize]) -> Self {
        let data = (0..self.rows).flat_map(|r| columns.iter().map(move |c| self.row(r)[*c])).collect();
        Self { rows: self.rows, cols: columns.len(), data }
    }
}

/// The square of the Euclidean distance.
#[must_use]
pub fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_numbers_of_the_right_shape() {
        assert!(Matrix::new(2, 2, vec![1.0; 4]).is_ok());
        assert_eq!(Matrix::new(2, 2, vec![1.0; 3]), Err(MatrixError::Shape { rows: 2, cols: 2, values: 3 }));
        assert_eq!(Matrix::new(2, 2, vec![0.0, 1.0, 2.0, f64::NAN]), Err(MatrixError::NotFinite { row: 1, col: 1 }));
    }
}
