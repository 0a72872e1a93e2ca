use crate::timer::Label;

/// The number of ids in a chunk. With its link, a chunk takes 128 bytes: two cache lines.
pub(crate) const CHUNK_IDS: usize = 31;

/// The number of chunks in a block, which is the unit of allocation: 64 KiB.
const BLOCK_CHUNKS: usize = 512;

/// The index of no chunk.
const NO_CHUNK: u32 = u32::MAX;

#[derive(Copy, Clone, Debug)]
#[repr(align(64))]
struct Chunk {
    ids: [u32; CHUNK_IDS],
    /// The next chunk of the chain, or of the block's free list.
    next: u32,
}

const _: () = assert!(size_of::<Chunk>() == 128);

type Chunks = Box<[Chunk; BLOCK_CHUNKS]>;

#[derive(Debug)]
struct Block {
    /// `None` if the memory is freed.
    chunks: Option<Chunks>,
    free: u32,
    used: u32,
}

/// An unordered list of ids in chunks. Only the first chunk may be partly filled.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Chain {
    head: u32,
    /// The number of ids in the first chunk, which is 0 only without a chunk.
    filled: u16,
    label: Label,
}

const _: () = assert!(size_of::<Chain>() == 8);

impl Chain {
    pub(crate) const fn new(label: Label) -> Self {
        Self {
            head: NO_CHUNK,
            filled: 0,
            label,
        }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.filled == 0
    }

    /// Returns the label of the timers whose entries are in this chain.
    pub(crate) const fn label(self) -> Label {
        self.label
    }
}

/// The memory of all chains.
///
/// Chunks are taken from the lowest block with a free chunk, so that the highest blocks become empty and can be freed.
/// One empty block is kept, so that a chain that grows and shrinks at the end of a block does not allocate each time.
#[derive(Debug)]
pub(crate) struct Pool {
    blocks: Vec<Block>,
    /// A bit for each block, which is set if the block has a free chunk or is freed.
    open: Vec<u64>,
    reserve: Option<Chunks>,
    allocated: usize,
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            open: Vec::new(),
            reserve: None,
            allocated: 0,
        }
    }

    /// Returns the bytes on the heap.
    pub(crate) const fn heap_bytes(&self) -> usize {
        self.allocated * size_of::<[Chunk; BLOCK_CHUNKS]>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.open.capacity() * size_of::<u64>()
    }

    #[inline]
    pub(crate) fn push(&mut self, chain: &mut Chain, id: u32) {
        if chain.is_empty() || usize::from(chain.filled) == CHUNK_IDS {
            chain.head = self.take_chunk(chain.head);
            chain.filled = 0;
        }
        self.chunk_mut(chain.head).ids[usize::from(chain.filled)] = id;
        chain.filled += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self, chain: &mut Chain) -> Option<u32> {
        let last = chain.filled.checked_sub(1)?;
        let chunk = self.chunk(chain.head);
        let (id, next) = (chunk.ids[usize::from(last)], chunk.next);
        chain.filled = last;
        if last == 0 {
            self.give_chunk(chain.head);
            chain.head = next;
            chain.filled = if next == NO_CHUNK {
                0
            } else {
                CHUNK_IDS as u16
            };
        }
        Some(id)
    }

    /// Returns the ids of the first chunk. `pop` returns the last of them first.
    pub(crate) fn first_ids(&self, chain: Chain) -> &[u32] {
        if chain.is_empty() {
            &[]
        } else {
            &self.chunk(chain.head).ids[..usize::from(chain.filled)]
        }
    }

    /// Returns the id that `pop` returns after the ids of one more chunk, or `None` if the chain is shorter.
    #[inline]
    pub(crate) fn id_a_chunk_ahead(&self, chain: Chain) -> Option<u32> {
        let last = chain.filled.checked_sub(1)?;
        let next = self.chunk(chain.head).next;
        if next == NO_CHUNK {
            None
        } else {
            Some(self.chunk(next).ids[usize::from(last)])
        }
    }

    #[inline]
    fn chunk(&self, index: u32) -> &Chunk {
        let block = &self.blocks[index as usize / BLOCK_CHUNKS];
        &block
            .chunks
            .as_ref()
            .expect("a chunk in use lies in a block in use")[index as usize % BLOCK_CHUNKS]
    }

    #[inline]
    fn chunk_mut(&mut self, index: u32) -> &mut Chunk {
        let block = &mut self.blocks[index as usize / BLOCK_CHUNKS];
        &mut block
            .chunks
            .as_mut()
            .expect("a chunk in use lies in a block in use")[index as usize % BLOCK_CHUNKS]
    }

    fn take_chunk(&mut self, next: u32) -> u32 {
        let number = self.open_block();
        if self.blocks[number].chunks.is_none() {
            self.fill_block(number);
        }
        let index = self.blocks[number].free;
        let free = self.chunk(index).next;
        self.chunk_mut(index).next = next;
        let block = &mut self.blocks[number];
        block.free = free;
        block.used += 1;
        if free == NO_CHUNK {
            self.open[number / 64] &= !(1 << (number % 64));
        }
        index
    }

    fn give_chunk(&mut self, index: u32) {
        let number = index as usize / BLOCK_CHUNKS;
        self.chunk_mut(index).next = self.blocks[number].free;
        self.open[number / 64] |= 1 << (number % 64);
        let block = &mut self.blocks[number];
        block.free = index;
        block.used -= 1;
        if block.used == 0 {
            let chunks = block.chunks.take();
            if self.reserve.is_none() {
                self.reserve = chunks;
            } else {
                self.allocated -= 1;
            }
        }
    }

    /// Returns the lowest block with a free chunk. Adds a block if there is none.
    fn open_block(&mut self) -> usize {
        if let Some(word) = self.open.iter().position(|&word| word != 0) {
            return word * 64 + self.open[word].trailing_zeros() as usize;
        }
        let number = self.blocks.len();
        assert!(
            number < NO_CHUNK as usize / BLOCK_CHUNKS,
            "the wheel is limited to 2^32 entries"
        );
        self.blocks.push(Block {
            chunks: None,
            free: NO_CHUNK,
            used: 0,
        });
        if number.is_multiple_of(64) {
            self.open.push(0);
        }
        self.open[number / 64] |= 1 << (number % 64);
        number
    }

    fn fill_block(&mut self, number: usize) {
        let mut chunks = self.reserve.take().unwrap_or_else(|| {
            self.allocated += 1;
            vec![
                Chunk {
                    ids: [0; CHUNK_IDS],
                    next: NO_CHUNK
                };
                BLOCK_CHUNKS
            ]
            .into_boxed_slice()
            .try_into()
            .expect("the length is that of a block")
        });
        let first = (number * BLOCK_CHUNKS) as u32;
        for (chunk, index) in chunks.iter_mut().zip(first..) {
            chunk.next = index + 1;
        }
        chunks[BLOCK_CHUNKS - 1].next = NO_CHUNK;
        self.blocks[number] = Block {
            chunks: Some(chunks),
            free: first,
            used: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_returns_each_pushed_id_once() {
        let mut pool = Pool::new();
        let mut chains = [Chain::new(Label::NONE); 3];
        for id in 0..10_000 {
            pool.push(&mut chains[id as usize % 3], id);
        }
        let mut ids = Vec::new();
        for chain in &mut chains {
            while let Some(id) = pool.pop(chain) {
                ids.push(id);
            }
            assert!(chain.is_empty());
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn the_id_a_chunk_ahead_is_popped_one_chunk_later() {
        let mut pool = Pool::new();
        let mut chain = Chain::new(Label::NONE);
        for id in 0..100 {
            pool.push(&mut chain, id);
        }
        assert_eq!(pool.first_ids(chain), [93, 94, 95, 96, 97, 98, 99]);
        let mut announced = Vec::new();
        let mut popped = Vec::new();
        loop {
            announced.extend(pool.id_a_chunk_ahead(chain));
            let Some(id) = pool.pop(&mut chain) else {
                break;
            };
            popped.push(id);
        }
        assert_eq!(popped.len(), 100);
        // 100 ids are 7 and three full chunks. The 7 announce 7 of the next chunk, and a full chunk announces all.
        assert_eq!(announced, [&popped[31..38], &popped[38..100]].concat());
    }

    #[test]
    fn all_memory_but_one_block_is_freed() {
        let mut pool = Pool::new();
        let mut chain = Chain::new(Label::NONE);
        for id in 0..1_000_000 {
            pool.push(&mut chain, id);
        }
        let full = pool.heap_bytes();
        assert!(full >= 4_000_000);
        while pool.pop(&mut chain).is_some() {}
        assert!(pool.heap_bytes() < 70_000, "{} bytes", pool.heap_bytes());
        for id in 0..1_000_000 {
            pool.push(&mut chain, id);
        }
        assert_eq!(pool.heap_bytes(), full);
    }
}
