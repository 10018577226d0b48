//! `fathom bench kernels`: products with weights of every stored format, and attention over a cache.

use super::rate::{Beside, Peak, Spread, read_now};
use crate::command::Machine;
use crate::failure::Failure;
use crate::opened;
use crate::output::{json_to_stdout, to_stderr, to_stdout};
use crate::terminal::Style;
use fathom_kernels::attention::{
    BLOCK_TOKENS, CacheType, CachedSegment, Heads, PagedKv, forward_cached,
};
use fathom_kernels::limits::ReadMeter;
use fathom_kernels::quant::Format;
use fathom_kernels::stored::{Matrix, SharedBytes, encode};
use fathom_kernels::threads::n_threads;
use fathom_tensor::op::linear;
use fathom_tensor::random::Random;
use fathom_tensor::{Buffer, Precision, Tape, Tensor, Weight};
use fathom_train::results::align;
use serde_json::{Value, json};
use std::str::FromStr;
use std::time::Instant;

/// Bytes that a measurement of reading goes through: more than caches hold.
const STREAM_BYTES: usize = 512 << 20;
/// Rows of a prefill pass.
const ROWS: usize = 512;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Formats of weights, with commas between them [default: all]
    #[arg(long, value_name = "FORMAT,…")]
    formats: Option<Formats>,

    /// Outputs and inputs of the matrices
    #[arg(long, value_name = "OUTxIN", default_value = "8960x1536")]
    shape: Shape,

    /// Measure each row N times; the medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Print one JSON object; names of figures carry their unit
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench kernels
  fathom bench kernels --formats q8_0,q4_k,bf16 --shape 2048x2048
  FATHOM_CPU=avx2 fathom bench kernels --json     the kernels of an older CPU

One row meets matrices that are not in the caches, and is held against the read bandwidth; 512 rows meet
one matrix, and are held against the peak of bytes (weights in few bits) or of floats.";

#[derive(Clone, Debug)]
struct Formats(Vec<Format>);

impl FromStr for Formats {
    type Err = String;

    fn from_str(text: &str) -> Result<Formats, String> {
        text.split(',')
            .map(|name| opened::format(name.trim()))
            .collect::<Result<_, _>>()
            .map(Formats)
    }
}

/// Rows and columns of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    n_out: usize,
    n_in: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let size = |word: &str| word.parse().ok().filter(|n| (1..=1 << 17).contains(n));
        let sizes = text.split_once('x').and_then(|(out, n_in)| size(out).zip(size(n_in)));
        match sizes {
            Some((_, n_in)) if !usize::is_multiple_of(n_in, 256) => {
                Err("the second number must be a multiple of 256, the longest block".into())
            }
            Some((n_out, n_in)) => Ok(Shape { n_out, n_in }),
            None => Err("it is two numbers up to 131072, such as 8960x1536".into()),
        }
    }
}

/// A figure beside its limit, over the rounds.
struct Measured {
    /// Bytes or operations per second.
    rate: Spread,
    limit: Spread,
    share: Spread,
}

impl Measured {
    /// Runs `body`, which returns what it did and how long it took, between looks at a limit.
    fn over(rounds: u16, look: impl Fn() -> f64, mut body: impl FnMut() -> (f64, f64)) -> Measured {
        body();
        let rounds: Vec<(f64, f64)> = (0..rounds)
            .map(|_| {
                let mut limit = Beside::default();
                limit.look(look());
                let (work, seconds) = body();
                limit.look(look());
                (work / seconds, limit.mean())
            })
            .collect();
        Measured {
            rate: Spread::of(rounds.iter().map(|(rate, _)| *rate)),
            limit: Spread::of(rounds.iter().map(|(_, limit)| *limit)),
            share: Spread::of(rounds.iter().map(|(rate, limit)| rate / limit)),
        }
    }

    fn cells(&self) -> [String; 2] {
        let [rate, _] = self.rate.cells(1e9);
        [rate, format!("{:.0} %", self.share.median * 100.0)]
    }

    /// `unit` ends the names of rates.
    fn as_json(&self, unit: &str) -> Value {
        let named = |name: &str, value: f64| (format!("{name}_{unit}_per_s"), json!(value));
        let mut map: serde_json::Map<String, Value> = [
            named("median", self.rate.median),
            named("least", self.rate.least),
            named("most", self.rate.most),
            named("limit", self.limit.median),
        ]
        .into_iter()
        .collect();
        map.insert("share_of_limit".into(), json!(self.share.median));
        map.into()
    }
}

/// What a row of the table is about, reading and computing.
struct Row {
    name: String,
    read: Measured,
    computed: Measured,
    peak: Peak,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let formats = args.formats.map_or_else(|| Format::ALL.to_vec(), |formats| formats.0);
    let meter = ReadMeter::new();
    let announce = |what: &str| {
        to_stderr(&format!("{}\n", Style::of_stderr().dim(&format!("{what} …"))));
    };
    let Shape { n_out, n_in } = args.shape;
    let values = Random::from_key(&[3]).normals(n_out * n_in, 0.02);
    let mut products = Vec::new();
    for format in formats {
        announce(&format!("products with {}", format.name()));
        products.push(product(format, args.shape, &values, args.rounds, &meter)?);
    }
    let mut attentions = Vec::new();
    for shape in ATTENTIONS {
        announce(&format!("attention, {}", shape.name));
        attentions.push(attention(shape, args.rounds, &meter));
    }
    if args.json {
        let rows = |rows: &[Row], name: &str, work: &str| -> Vec<Value> {
            let row = |row: &Row| {
                json!({
                    name: row.name,
                    "one_row": row.read.as_json("bytes"),
                    "many_rows": row.computed.as_json(work),
                    "peak": row.peak.name(),
                })
            };
            rows.iter().map(row).collect()
        };
        return json_to_stdout(&json!({
            "threads": n_threads(),
            "outputs": n_out,
            "inputs": n_in,
            "rows": ROWS,
            "products": rows(&products, "format", "operations"),
            "attention": rows(&attentions, "shape", "operations"),
        }));
    }
    let heading = ["", "1 row, GB/s", "of read limit", "512 rows, GOP/s", "of peak", "peak"];
    let mut lines = Vec::new();
    for row in products.iter().chain(&attentions) {
        let ([read, of_read], [computed, of_peak]) = (row.read.cells(), row.computed.cells());
        lines.push(vec![
            row.name.clone(),
            read,
            of_read,
            computed,
            of_peak,
            row.peak.name().into(),
        ]);
    }
    lines.insert(0, heading.map(str::to_owned).to_vec());
    to_stdout(&format!("{}matrices {n_out} x {n_in}, threads: {}\n", align(&lines), n_threads()))
}

fn product(
    format: Format,
    shape: Shape,
    values: &[f32],
    rounds: u16,
    meter: &ReadMeter,
) -> Result<Row, Failure> {
    let Shape { n_out, n_in } = shape;
    let bytes = encode(values, format);
    let n_bytes = bytes.len();
    let weights: Vec<Weight> = (0..STREAM_BYTES.div_ceil(n_bytes))
        .map(|slot| {
            let bytes = SharedBytes::owned(bytes.clone());
            let matrix = Matrix::new(format, n_out, n_in, bytes);
            let matrix = matrix.map_err(|error| Failure::Failed(error.to_string()))?;
            let mut weight = Weight::stored(format.name(), slot, matrix);
            weight.pack(Precision::F32, false);
            // As `fathom run` does: products with few bits run in integers.
            weight.round_input();
            Ok(weight)
        })
        .collect::<Result<_, Failure>>()?;
    let input = |rows: usize| {
        let x = Random::from_key(&[5]).normals(rows * n_in, 1.0);
        Tensor::new(Buffer::copy_of(&x), &[rows, n_in])
    };
    let (one, many) = (input(1), input(ROWS));
    let peak = Peak::of(Some(format));
    let read = Measured::over(
        rounds,
        || read_now(meter),
        || {
            let start = Instant::now();
            weights.iter().for_each(|weight| _ = linear(&Tape::forgetting(), &one, weight));
            ((weights.len() * n_bytes) as f64, start.elapsed().as_secs_f64())
        },
    );
    let computed = Measured::over(
        rounds,
        || peak.now(),
        || {
            let start = Instant::now();
            linear(&Tape::forgetting(), &many, &weights[0]);
            ((2 * ROWS * n_out * n_in) as f64, start.elapsed().as_secs_f64())
        },
    );
    Ok(Row { name: format.name().to_owned(), read, computed, peak })
}

/// Attention of one layer of a release, over a cache of some depth.
struct AttentionShape {
    name: &'static str,
    heads: Heads,
    latent: bool,
    depth: usize,
}

const ATTENTIONS: [AttentionShape; 2] = [
    AttentionShape {
        name: "GQA 12/2 x 128, depth 4096",
        heads: Heads { n_heads: 12, n_kv_heads: 2, qk_dim: 128, v_dim: 128, scale: 0.088 },
        latent: false,
        depth: 4096,
    },
    AttentionShape {
        name: "MLA 16 x 576, depth 4096",
        heads: Heads { n_heads: 16, n_kv_heads: 1, qk_dim: 576, v_dim: 512, scale: 0.072 },
        latent: true,
        depth: 4096,
    },
];

fn attention(shape: AttentionShape, rounds: u16, meter: &ReadMeter) -> Row {
    let AttentionShape { name, heads, latent, depth } = shape;
    let Heads { n_heads, n_kv_heads, qk_dim, v_dim, .. } = heads;
    let mut cache = match latent {
        true => PagedKv::latent(qk_dim, v_dim),
        false => PagedKv::new(n_kv_heads, qk_dim, v_dim),
    }
    .with_type(CacheType::F16);
    let n_blocks = (depth + ROWS).div_ceil(BLOCK_TOKENS);
    cache.grow(n_blocks);
    let n_keys = n_blocks * BLOCK_TOKENS;
    let places: Vec<(u32, u32)> =
        (0..n_keys).map(|key| ((key / BLOCK_TOKENS) as u32, (key % BLOCK_TOKENS) as u32)).collect();
    let mut random = Random::from_key(&[9]);
    let keys = random.normals(n_keys * n_kv_heads * qk_dim, 1.0);
    let values = random.normals(if latent { 0 } else { n_keys * n_kv_heads * v_dim }, 1.0);
    cache.write_rows(&places, &keys, &values);
    let layers = vec![cache.clone(); STREAM_BYTES.div_ceil(cache.n_bytes())];
    let blocks: Vec<u32> = (0..n_blocks as u32).collect();
    let q = random.normals(ROWS * n_heads * qk_dim, 1.0);
    let mut out = vec![0.0; ROWS * n_heads * v_dim];
    let mut pass = |layers: &[PagedKv], rows: usize| {
        let segment = CachedSegment { blocks: &blocks, past: depth, rows: 0..rows };
        let (q, out) = (&q[..rows * n_heads * qk_dim], &mut out[..rows * n_heads * v_dim]);
        let start = Instant::now();
        for layer in layers {
            forward_cached(&heads, layer, std::slice::from_ref(&segment), q, out);
        }
        start.elapsed().as_secs_f64()
    };
    let share_read = (depth + 1) as f64 / n_keys as f64;
    let bytes: f64 = layers.iter().map(|layer| layer.n_bytes() as f64 * share_read).sum();
    let read = Measured::over(rounds, || read_now(meter), || (bytes, pass(&layers, 1)));
    let seen: usize = (0..ROWS).map(|row| depth + row + 1).sum();
    let operations = (2 * (qk_dim + v_dim) * n_heads * seen) as f64;
    let peak = Peak::Float;
    let computed = Measured::over(rounds, || peak.now(), || (operations, pass(&layers[..1], ROWS)));
    Row { name: name.to_owned(), read, computed, peak }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_two_numbers_of_whole_blocks() {
        assert_eq!("8960x1536".parse(), Ok(Shape { n_out: 8960, n_in: 1536 }));
        for wrong in ["8960", "8960x", "0x256", "8960x100", "999999999x256", "ax256"] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
        assert!("q8_0,q9".parse::<Formats>().unwrap_err().contains("q9"));
    }
}
