//! Maps of sparse files: checked against the file they describe, and read in GNU tar's old and 1.0 formats.
//! (GNU tar manual, "Storing Sparse Files".) The formats 0.0 and 0.1 are pax records, see `pax`.

use tar::GnuSparseHeader;

use crate::entry::Region;
use crate::number;

/// Regions must ascend without overlap, lie within the file, and hold exactly the bytes that the archive stores.
pub(crate) fn check(regions: &[Region], size: u64, stored: u64) -> bool {
    let mut end = 0u64;
    let mut total = 0u64;
    for region in regions {
        let Some(next) = region.offset.checked_add(region.length) else {
            return false;
        };
        if region.offset < end || next > size {
            return false;
        }
        end = next;
        total += region.length;
    }
    total == stored
}

/// Takes the regions of an old-format header; unused slots are blank.
pub(crate) fn old(slots: &[GnuSparseHeader], regions: &mut Vec<Region>) -> Option<()> {
    for slot in slots {
        if slot.offset[0] == 0 || slot.numbytes[0] == 0 {
            continue;
        }
        regions.push(Region {
            offset: number::unsigned(&slot.offset)?,
            length: number::unsigned(&slot.numbytes)?,
        });
    }
    Some(())
}

/// Collects the lines of a 1.0 map, which precedes the data: a count, then an offset and a length per region.
#[derive(Debug, Default)]
pub(crate) struct MapReader {
    line: Vec<u8>,
    expected: Option<u64>,
    offset: Option<u64>,
    pub(crate) regions: Vec<Region>,
}

/// Why a map was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MapFault {
    Syntax,
    TooMany,
}

impl MapReader {
    /// Takes one block; true when the map is complete, the rest of that block being padding.
    pub(crate) fn take(&mut self, block: &[u8], allowed: usize) -> Result<bool, MapFault> {
        for byte in block {
            if *byte == b'\n' {
                let value = number::decimal(&self.line).ok_or(MapFault::Syntax)?;
                self.line.clear();
                if self.value(value, allowed)? {
                    return Ok(true);
                }
            } else if self.line.len() < 20 {
                self.line.push(*byte);
            } else {
                return Err(MapFault::Syntax);
            }
        }
        Ok(false)
    }

    fn value(&mut self, value: u64, allowed: usize) -> Result<bool, MapFault> {
        let Some(expected) = self.expected else {
            self.expected = Some(value);
            return if value > allowed as u64 {
                Err(MapFault::TooMany)
            } else {
                Ok(value == 0)
            };
        };
        match self.offset.take() {
            None => self.offset = Some(value),
            Some(offset) => self.regions.push(Region {
                offset,
                length: value,
            }),
        }
        Ok(self.offset.is_none() && self.regions.len() as u64 == expected)
    }
}

#[cfg(test)]
mod tests;
