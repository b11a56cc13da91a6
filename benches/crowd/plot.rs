//! Times over the size of the crowd, as an SVG.

use std::error::Error;
use std::path::Path;

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::latency;
use crate::point::Point;
use crate::table::{Statistic, Table};

const SIZE: (u32, u32) = (1260, 420);
const FONT: (&str, u32) = ("sans-serif", 13);

/// Draws a panel each for pod start, ExecSync, and stop and remove, on a logarithmic scale, because runtimes may differ by an
/// order of magnitude: a line for each runtime's medians, a dashed one for the 99th percentiles, circles with the mounts.
pub(crate) fn draw(
    file: &Path,
    runtimes: &[&str],
    points: &[Point],
    table: &Table,
) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let measures = [latency::START, latency::EXEC, latency::END];
    for (area, what) in root.split_evenly((1, measures.len())).iter().zip(measures) {
        let line = |runtime: &str, statistic, with_mounts: bool| -> Vec<(usize, f64)> {
            let wanted = points.iter().filter(|point| (point.mounts > 0) == with_mounts);
            let value = |point: &Point| table.value(what, &point.column(runtime), statistic);
            wanted
                .filter_map(|point| Some((point.pods, value(point)?)))
                .collect()
        };
        let all = points.iter().flat_map(|point| {
            let both = [Statistic::Median, Statistic::P99];
            let column = move |runtime: &&str| point.column(runtime);
            let columns = runtimes.iter().map(column);
            columns.flat_map(move |column| both.map(|statistic| table.value(what, &column, statistic)))
        });
        let (low, high) = all
            .flatten()
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if high == 0.0 {
            continue;
        }
        let widest = points.iter().map(|point| point.pods).max().unwrap_or_default();
        let mut chart = ChartBuilder::on(area)
            .caption(what, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(0..widest.max(1), (low / 1.5..high * 4.0).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("idle pods")
            .y_desc("ms")
            .y_label_formatter(&|ms| ms.to_string())
            .label_style(FONT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (number, runtime) in runtimes.iter().enumerate() {
            let color = Palette99::pick(number).to_rgba();
            let (solid, thin) = (color.stroke_width(2), color.stroke_width(1));
            chart
                .draw_series(LineSeries::new(line(runtime, Statistic::Median, false), solid).point_size(2))?
                .label(format!("{runtime}, median"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], solid));
            chart
                .draw_series(DashedLineSeries::new(
                    line(runtime, Statistic::P99, false),
                    5,
                    4,
                    thin,
                ))?
                .label(format!("{runtime}, p99"))
                .legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 20, y)], 5, 4, thin));
            for (statistic, style) in [(Statistic::Median, solid), (Statistic::P99, thin)] {
                let beside_mounts = line(runtime, statistic, true);
                chart.draw_series(beside_mounts.into_iter().map(|at| Circle::new(at, 5, style)))?;
            }
        }
        if let Some(mounts) = points.iter().map(|point| point.mounts).find(|mounts| *mounts > 0) {
            chart
                .draw_series(std::iter::empty::<Circle<(usize, f64), i32>>())?
                .label(format!("with {mounts} mounts"))
                .legend(|(x, y)| Circle::new((x + 10, y), 5, BLACK));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .label_font(FONT)
            .draw()?;
    }
    root.present()?;
    Ok(())
}
