//! `pausa image ls`: lists images.

use clap::Args;
use serde::Serialize;

use super::view::{Filter, ImageView, split_digest, split_tag};
use crate::cli::client::Daemon;
use crate::cli::output::{Format, Table, print, print_json};
use crate::cli::units;
use crate::proto::v1;

/// An empty cell, in the form of crictl.
const NONE: &str = "<none>";

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// List only matching images: repositories, names, ids, prefixes of ids, patterns with `*`.
    #[arg(value_name = "IMAGE")]
    filters: Vec<String>,
    /// Print only complete ids, one per line.
    #[arg(long, short)]
    quiet: bool,
    /// Print the digests of the manifests too.
    #[arg(long)]
    digests: bool,
    /// Do not shorten ids and digests.
    #[arg(long)]
    no_trunc: bool,
}

#[derive(Serialize)]
struct Document {
    images: Vec<ImageView>,
}

pub(super) async fn run(daemon: &Daemon, args: &ListArgs, format: Format) -> anyhow::Result<()> {
    let answer = daemon
        .images()
        .list_images(v1::ListImagesRequest::default())
        .await;
    let listed = answer.map_err(daemon.failed("ListImages"))?.into_inner().images;
    let images = select(listed.into_iter().map(ImageView::from).collect(), &args.filters);
    if args.quiet {
        let ids: Vec<_> = images.iter().map(|image| format!("{}\n", image.id)).collect();
        return print(&ids.concat());
    }
    match format {
        Format::Json => print_json(&Document { images }),
        Format::Table if args.digests => print(&with_digests(&images, args.no_trunc)),
        Format::Table => print(&table(&images, args.no_trunc)),
    }
}

fn select(mut images: Vec<ImageView>, filters: &[String]) -> Vec<ImageView> {
    let filters: Vec<_> = filters.iter().map(|text| Filter::new(text)).collect();
    images.retain(|image| filters.is_empty() || filters.iter().any(|filter| filter.matches(image)));
    // By name; images without a name come last.
    images.sort_by_cached_key(|image| (image.names().is_empty(), image.names().to_vec(), image.id.clone()));
    images
}

fn table(images: &[ImageView], full_ids: bool) -> String {
    let mut table = Table::new(["IMAGE", "TAG", "IMAGE ID", "SIZE>", "PINNED"]);
    for image in images {
        for (name, tag) in rows(image) {
            let [id, size, pinned] = cells(image, full_ids);
            table.row([name, tag, id, size, pinned]);
        }
    }
    table.render()
}

fn with_digests(images: &[ImageView], full_ids: bool) -> String {
    let mut table = Table::new(["IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE>", "PINNED"]);
    for image in images {
        for (name, tag) in rows(image) {
            let digests = image.repo_digests.iter().map(|digest| split_digest(digest));
            let mut own = digests.filter(|(repository, _)| *repository == name);
            let digest = own.next().and_then(|(_, digest)| digest);
            let digest = digest.map_or_else(|| NONE.to_owned(), |digest| units::id(digest, full_ids));
            let [id, size, pinned] = cells(image, full_ids);
            table.row([name, tag, digest, id, size, pinned]);
        }
    }
    table.render()
}

/// Names and tags for the rows of an image: one row for each tag; without tags one for each repository with a digest; one if
/// there is neither.
fn rows(image: &ImageView) -> Vec<(String, String)> {
    let row = |(name, tag): (&str, Option<&str>)| (name.to_owned(), tag.unwrap_or(NONE).to_owned());
    if !image.repo_tags.is_empty() {
        return image.repo_tags.iter().map(|name| row(split_tag(name))).collect();
    }
    let mut repositories: Vec<_> = image
        .repo_digests
        .iter()
        .map(|name| split_digest(name).0)
        .collect();
    repositories.dedup();
    if repositories.is_empty() {
        repositories.push(NONE);
    }
    repositories.into_iter().map(|name| row((name, None))).collect()
}

fn cells(image: &ImageView, full_ids: bool) -> [String; 3] {
    let pinned = if image.pinned { "yes" } else { "no" };
    [
        units::id(&image.id, full_ids),
        units::size(image.size),
        pinned.to_owned(),
    ]
}

#[cfg(test)]
mod tests;
