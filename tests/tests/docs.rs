//! The documentation holds together: relative links lead somewhere, and every decision is in the list.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Markdown file at the root and below `docs/`.
fn pages() -> Vec<PathBuf> {
    let mut folders = vec![root().join("docs")];
    let mut pages = markdown(&root());
    while let Some(folder) = folders.pop() {
        pages.extend(markdown(&folder));
        folders.extend(entries(&folder).filter(|path| path.is_dir()));
    }
    pages
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).expect("a folder of the checkout").map(|entry| entry.expect("readable").path())
}

fn markdown(folder: &Path) -> Vec<PathBuf> {
    entries(folder).filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

fn text(page: &Path) -> String {
    std::fs::read_to_string(page).expect("documentation is UTF-8")
}

/// The targets of `[words](target)`, without anchors.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).filter(|link| !link.is_empty())
}

#[test]
fn relative_links_lead_somewhere() {
    let mut count = 0;
    for page in pages() {
        let text = text(&page);
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let target = page.parent().expect("a page is in a folder").join(link);
            assert!(target.exists(), "{}: {link} is not there", page.display());
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} links were found");
}

#[test]
fn every_decision_is_listed() {
    let folder = root().join("docs/decisions");
    let list = text(&folder.join("README.md"));
    for page in markdown(&folder) {
        let name = page.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        assert!(name == "README.md" || list.contains(&format!("({name})")), "{name} is not in the list");
    }
}
