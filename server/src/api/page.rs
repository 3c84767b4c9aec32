//! Pages: some items of many, and where to go on.

use crate::api::cursor::Cursor;

/// A page ends with so many bytes, however few its items are; one item may be larger.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// A page that is being written: `{"items":[...],"next":...}`.
pub(crate) struct Page {
    text: Vec<u8>,
    items: usize,
    limit: usize,
}

impl Page {
    /// A page of at most `limit` items.
    pub(crate) fn new(limit: usize) -> Page {
        Page { text: b"{\"items\":[".to_vec(), items: 0, limit }
    }

    /// Whether the next item belongs to the next page. A page takes at least one.
    pub(crate) fn is_full(&self) -> bool {
        self.items >= self.limit || self.text.len() >= PAGE_BYTES_MAX
    }

    /// Begins an item, which is to be appended.
    pub(crate) fn item(&mut self) -> &mut Vec<u8> {
        if self.items > 0 {
            self.text.push(b',');
        }
        self.items += 1;
        &mut self.text
    }

    /// The page's text. `next` is where the next one begins, if there is one.
    pub(crate) fn end(mut self, next: Option<&Cursor>) -> Vec<u8> {
        let next = next.map_or_else(|| "null".to_owned(), |next| format!("\"{}\"", next.encode()));
        self.text.extend_from_slice(format!("],\"next\":{next}}}\n").as_bytes());
        self.text
    }
}
