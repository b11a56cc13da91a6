//! Reads a bbolt database (<https://github.com/etcd-io/bbolt>) from its bytes: nested buckets of keys and values in B+trees.
//!
//! ```text
//!   page 0, 1   meta: page size, root bucket, transaction; the valid one with the higher transaction counts
//!   branch      keys and the pages below them
//!   leaf        keys with values, or with buckets: the page of their root, or the page itself (inline)
//! ```
//!
//! Writers never change a page that the last transaction can reach, so a copy is whole if its meta pages were the same before
//! and after it was made: compare [`Db::transaction`]. Integers are little-endian, as bbolt writes them on x86-64 and arm64.
//!
//! Must never: panic, loop, or take memory beyond a few words per level of a tree, whatever the bytes say. Pages may overlap,
//! refer to each other in circles, and lie about lengths; what is read is always a part of the given bytes.

use std::fmt;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes before the elements of a page.
const HEADER: usize = 16;
/// Bytes of a meta page's content before its checksum.
const META: usize = 56;
const ELEMENT: usize = 16;
/// Bytes of a bucket's value before an inline page.
const BUCKET: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const IS_BUCKET: u32 = 1;
/// No tree of real keys is deeper.
const DEPTH: usize = 32;
/// Sizes of pages, where the first meta page is damaged.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 9..=17;

/// The bytes are not a database that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Error {
    #[error("not a bbolt database: neither of its two meta pages is valid")]
    NoMeta,
    #[error("page {page} of the database is damaged: {what}")]
    Page { page: u64, what: &'static str },
}

/// A database.
#[derive(Clone, Copy)]
pub struct Db<'a> {
    bytes: &'a [u8],
    page_size: usize,
    root: u64,
    transaction: u64,
}

/// A bucket of a database.
#[derive(Clone, Copy)]
pub struct Bucket<'a> {
    db: Db<'a>,
    root: Root<'a>,
}

/// What belongs to a key.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Plain bytes.
    Bytes(&'a [u8]),
    /// Further keys.
    Bucket(Bucket<'a>),
}

/// Where a bucket's tree begins.
#[derive(Clone, Copy)]
enum Root<'a> {
    Page(u64),
    /// The page is in the value of the bucket's key.
    Inline(&'a [u8]),
}

/// A page with its elements, all of which are within its bytes.
#[derive(Clone, Copy)]
struct Page<'a> {
    number: u64,
    is_leaf: bool,
    count: usize,
    bytes: &'a [u8],
}

impl fmt::Debug for Db<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Bucket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").finish_non_exhaustive()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

/// FNV-1a of 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Page size, root and transaction of a valid meta page.
fn meta(page: &[u8]) -> Option<(usize, u64, u64)> {
    let meta = page.get(HEADER..)?;
    let valid = u32_at(meta, 0)? == MAGIC
        && u32_at(meta, 4)? == VERSION
        && u64_at(meta, META)? == checksum(meta.get(..META)?);
    let size = usize::try_from(u32_at(meta, 8)?).ok()?;
    (valid && size.is_power_of_two() && size >= HEADER + META + 8).then_some((
        size,
        u64_at(meta, 16)?,
        u64_at(meta, 48)?,
    ))
}

impl<'a> Db<'a> {
    /// # Errors
    /// Neither meta page is valid.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let first = meta(bytes);
        let sizes = match first {
            Some((size, ..)) => vec![size],
            None => PAGE_SIZES.map(|power| 1 << power).collect(),
        };
        let second = sizes.into_iter().find_map(|size| {
            let found = meta(bytes.get(size..)?)?;
            (found.0 == size).then_some(found)
        });
        let newest = first
            .into_iter()
            .chain(second)
            .max_by_key(|(_, _, transaction)| *transaction);
        let (page_size, root, transaction) = newest.ok_or(Error::NoMeta)?;
        Ok(Self {
            bytes,
            page_size,
            root,
            transaction,
        })
    }

    /// The number of the last transaction. Differs whenever the content does.
    #[must_use]
    pub fn transaction(&self) -> u64 {
        self.transaction
    }

    /// The bucket that contains all others.
    #[must_use]
    pub fn root(&self) -> Bucket<'a> {
        Bucket {
            db: *self,
            root: Root::Page(self.root),
        }
    }

    fn page(&self, number: u64) -> Result<Page<'a>, Error> {
        let damaged = |what| Error::Page { page: number, what };
        let outside = || damaged("it is beyond the end of the file");
        let begin = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_mul(self.page_size));
        let bytes = begin
            .and_then(|begin| self.bytes.get(begin..))
            .ok_or_else(outside)?;
        let overflow = u32_at(bytes, 12).ok_or_else(outside)?;
        let length = usize::try_from(overflow)
            .ok()
            .and_then(|pages| pages.checked_add(1)?.checked_mul(self.page_size));
        let bytes = length
            .and_then(|length| bytes.get(..length))
            .ok_or_else(outside)?;
        if u64_at(bytes, 0) != Some(number) {
            return Err(damaged("it has the number of another page"));
        }
        Page::new(number, bytes)
    }

    /// No walk through a tree has more pages.
    fn pages(&self) -> usize {
        self.bytes.len() / self.page_size
    }
}

impl<'a> Page<'a> {
    fn new(number: u64, bytes: &'a [u8]) -> Result<Self, Error> {
        let damaged = |what| Error::Page { page: number, what };
        let (Some(flags), Some(count)) = (u16_at(bytes, 8), u16_at(bytes, 10)) else {
            return Err(damaged("it is too short"));
        };
        let is_leaf = match flags {
            LEAF => true,
            BRANCH => false,
            _ => return Err(damaged("it is neither a branch nor a leaf")),
        };
        let count = usize::from(count);
        if HEADER + count * ELEMENT > bytes.len() {
            return Err(damaged("it has more elements than room"));
        }
        Ok(Self {
            number,
            is_leaf,
            count,
            bytes,
        })
    }

    fn damaged(&self, what: &'static str) -> Error {
        Error::Page {
            page: self.number,
            what,
        }
    }

    /// The bytes at a distance from an element.
    fn slice(&self, element: usize, position: u32, skip: u32, length: u32) -> Result<&'a [u8], Error> {
        let slice = || {
            let [position, skip, length] = [position, skip, length].map(usize::try_from).map(Result::ok);
            let begin = element.checked_add(position?)?.checked_add(skip?)?;
            self.bytes.get(begin..begin.checked_add(length?)?)
        };
        slice().ok_or_else(|| self.damaged("a key or value is outside of it"))
    }

    /// The start of an element; the number is below the count.
    fn number_at(&self, element: usize, at: usize) -> Result<u32, Error> {
        u32_at(self.bytes, element + at).ok_or_else(|| self.damaged("it is too short"))
    }

    fn key(&self, index: usize) -> Result<&'a [u8], Error> {
        let element = HEADER + index * ELEMENT;
        let at = if self.is_leaf { 4 } else { 0 };
        let (position, length) = (self.number_at(element, at)?, self.number_at(element, at + 4)?);
        self.slice(element, position, 0, length)
    }

    /// The page below an element of a branch.
    fn child(&self, index: usize) -> Result<u64, Error> {
        let at = HEADER + index * ELEMENT + 8;
        u64_at(self.bytes, at).ok_or_else(|| self.damaged("it is too short"))
    }

    fn value(&self, index: usize, db: Db<'a>) -> Result<Value<'a>, Error> {
        let element = HEADER + index * ELEMENT;
        let [flags, position, key, length] = [
            self.number_at(element, 0)?,
            self.number_at(element, 4)?,
            self.number_at(element, 8)?,
            self.number_at(element, 12)?,
        ];
        let bytes = self.slice(element, position, key, length)?;
        if flags & IS_BUCKET == 0 {
            return Ok(Value::Bytes(bytes));
        }
        let root = match u64_at(bytes, 0) {
            Some(0) => Root::Inline(
                bytes
                    .get(BUCKET..)
                    .ok_or_else(|| self.damaged("a bucket is too short"))?,
            ),
            Some(page) => Root::Page(page),
            None => return Err(self.damaged("a bucket is too short")),
        };
        Ok(Value::Bucket(Bucket { db, root }))
    }
}

impl<'a> Bucket<'a> {
    fn root_page(&self) -> Result<Page<'a>, Error> {
        match self.root {
            Root::Page(number) => self.db.page(number),
            Root::Inline(bytes) => Page::new(0, bytes),
        }
    }

    /// What belongs to a key.
    ///
    /// # Errors
    /// A page on the way is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value<'a>>, Error> {
        let mut page = self.root_page()?;
        for _ in 0..DEPTH {
            // The first element whose key is greater.
            let (mut low, mut high) = (0, page.count);
            while low < high {
                let middle = low + (high - low) / 2;
                if page.key(middle)? <= key {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            if page.is_leaf {
                let Some(index) = low.checked_sub(1) else {
                    return Ok(None);
                };
                return match page.key(index)? == key {
                    true => page.value(index, self.db).map(Some),
                    false => Ok(None),
                };
            }
            if page.count == 0 {
                return Err(page.damaged("a branch has no elements"));
            }
            page = self.db.page(page.child(low.saturating_sub(1))?)?;
        }
        Err(page.damaged("the tree is too deep"))
    }

    /// The bucket of a key; `None` if there is none, or a plain value.
    ///
    /// # Errors
    /// A page on the way is damaged.
    pub fn bucket(&self, key: &[u8]) -> Result<Option<Self>, Error> {
        Ok(match self.get(key)? {
            Some(Value::Bucket(bucket)) => Some(bucket),
            _ => None,
        })
    }

    /// The plain value of a key; `None` if there is none, or a bucket.
    ///
    /// # Errors
    /// A page on the way is damaged.
    pub fn bytes(&self, key: &[u8]) -> Result<Option<&'a [u8]>, Error> {
        Ok(match self.get(key)? {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        })
    }

    /// All keys with what belongs to them, in order. Ends after the first error.
    #[must_use]
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            db: self.db,
            // One more than the file has pages: the root of an inline bucket is not one of them.
            left: self.db.pages() + 1,
            open: Vec::new(),
            next: Some(self.root_page()),
        }
    }
}

impl<'a> IntoIterator for &Bucket<'a> {
    type Item = Result<(&'a [u8], Value<'a>), Error>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The keys of a bucket.
pub struct Iter<'a> {
    db: Db<'a>,
    /// Pages that may still be opened.
    left: usize,
    /// From the root to the current page, each with the next element.
    open: Vec<(Page<'a>, usize)>,
    /// The page to descend into.
    next: Option<Result<Page<'a>, Error>>,
}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<'a> Iter<'a> {
    fn step(&mut self) -> Result<Option<(&'a [u8], Value<'a>)>, Error> {
        loop {
            if let Some(page) = self.next.take() {
                let page = page?;
                if self.open.len() == DEPTH || self.left == 0 {
                    return Err(page.damaged("the tree is too deep, or has a page twice"));
                }
                self.left -= 1;
                self.open.push((page, 0));
            }
            let Some((page, index)) = self.open.last_mut() else {
                return Ok(None);
            };
            if *index == page.count {
                self.open.pop();
                continue;
            }
            let at = *index;
            *index += 1;
            if page.is_leaf {
                return Ok(Some((page.key(at)?, page.value(at, self.db)?)));
            }
            self.next = Some(self.db.page(page.child(at)?));
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Result<(&'a [u8], Value<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.open.clear();
        }
        step.transpose()
    }
}

#[cfg(test)]
mod tests;
