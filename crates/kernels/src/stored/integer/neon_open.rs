//! Opening blocks with NEON: four rows at a time are taken apart, then squares of 4 × 4 words are turned.
//!
//! Codes come out signed, less the middle of their format, as [`super::neon`] multiplies them.
#![cfg(target_arch = "aarch64")]

use super::opened::{AHEAD_PER_BYTE, Opened, PANEL, PanelRows};
use super::rounded::HALF;
use crate::memory::fetch_far;
use crate::neon::{transpose, widen_half};
use crate::quant::{CHUNK, Codes, Coding, Format};
use std::arch::aarch64::*;

/// Rows that are turned together.
const ROWS: usize = 4;
/// Blocks of `q8_0` in a chunk.
const SMALL_BLOCKS: usize = CHUNK / 32;
/// Bytes of a block of `q8_0`: a scale, then codes that are signed as they lie.
const Q8_0_BYTES: usize = 34;

/// Opens a chunk. Safety: as [`Opened::open`].
pub(super) unsafe fn open(opened: &mut Opened, format: Format, coding: Coding, rows: &PanelRows) {
    let n_bytes = rows.len / format.block_len() * format.block_bytes();
    let mut read = [const { Codes::new() }; ROWS];
    for first in (0..rows.n_rows).step_by(ROWS) {
        fetch_next(rows, first, n_bytes);
        let mut bytes = [std::ptr::null::<u8>(); ROWS];
        for r in 0..ROWS {
            // Rows that do not exist are the last one again: lanes of those hold anything.
            let row = (first + r).min(rows.n_rows - 1);
            bytes[r] = rows.bytes.wrapping_add(row * rows.row_bytes);
        }
        // SAFETY: the caller's promise.
        unsafe {
            if format == Format::Q8_0 {
                q8_0(opened, &bytes, first, rows.len);
                continue;
            }
            for r in 0..ROWS {
                let bytes = std::slice::from_raw_parts(bytes[r], n_bytes);
                read[r].read(format, bytes);
            }
            let scales = [0, 1, 2, 3].map(|r: usize| &read[r].scales);
            interleave(&mut opened.scales, scales, first, rows.len / coding.group);
            if coding.has_mins {
                let mins = [0, 1, 2, 3].map(|r: usize| &read[r].mins);
                interleave(&mut opened.mins, mins, first, rows.len / coding.group);
            }
            let middle = vdupq_n_u8(coding.middle as u8);
            for half in 0..rows.len / HALF {
                let mut square = [vdupq_n_f32(0.0); ROWS];
                for r in 0..ROWS {
                    let codes = vld1q_u8(read[r].codes.as_ptr().add(HALF * half));
                    square[r] = vreinterpretq_f32_u8(vsubq_u8(codes, middle));
                }
                put(opened, half, first, square);
            }
        }
    }
}

/// Rows of `q8_0`. Safety: as [`open`].
unsafe fn q8_0(opened: &mut Opened, rows: &[*const u8; ROWS], first: usize, len: usize) {
    assert!(len / 32 <= SMALL_BLOCKS, "{len} columns");
    for b in 0..len / 32 {
        // SAFETY: every block has its bytes.
        unsafe {
            for r in 0..ROWS {
                let block = rows[r].add(Q8_0_BYTES * b);
                opened.scales[b][first + r] = widen_half(block.cast::<u16>().read_unaligned());
            }
            for half in 0..2 {
                let mut square = [vdupq_n_f32(0.0); ROWS];
                for r in 0..ROWS {
                    let codes = rows[r].add(Q8_0_BYTES * b + 2 + HALF * half);
                    square[r] = vreinterpretq_f32_u8(vld1q_u8(codes));
                }
                put(opened, 2 * b + half, first, square);
            }
        }
    }
}

/// Sixteen codes of four rows, from row `first` on, to where they belong. Safety: as [`open`].
#[inline(always)]
unsafe fn put(opened: &mut Opened, half: usize, first: usize, square: [float32x4_t; ROWS]) {
    let turned = transpose(square);
    for g in 0..4 {
        // SAFETY: a panel has 4 · PANEL codes of these columns, and `first` is below PANEL.
        unsafe {
            let to = opened.codes[4 * half + g].as_mut_ptr().add(4 * first);
            vst1q_u8(to, vreinterpretq_u8_f32(turned[g]));
        }
    }
}

/// The first `n` numbers of four rows, from row `first` on, and perhaps some more.
#[inline(always)]
fn interleave(to: &mut [[f32; PANEL]; 16], from: [&[f32; 16]; ROWS], first: usize, n: usize) {
    for i in (0..n).step_by(4) {
        // SAFETY: all of them have sixteen numbers, and `first` is a multiple of four below PANEL.
        unsafe {
            let mut square = [vdupq_n_f32(0.0); ROWS];
            for r in 0..ROWS {
                square[r] = vld1q_f32(from[r].as_ptr().add(i));
            }
            let turned = transpose(square);
            for j in 0..4 {
                vst1q_f32(to[i + j].as_mut_ptr().add(first), turned[j]);
            }
        }
    }
}

/// A quarter of what is read next: see [`PanelRows::ahead`].
#[inline(always)]
fn fetch_next(rows: &PanelRows, first: usize, n_bytes: usize) {
    let ahead = rows.ahead.wrapping_add(first * rows.ahead_row_bytes);
    for at in (0..n_bytes).step_by(16) {
        fetch_far(ahead.wrapping_add(AHEAD_PER_BYTE * at));
    }
}
