//! A browser that knows nothing of bondwire: one page with forty pictures. Passed over where there is no Chromium.

use std::time::Instant;

use crate::support::{in_lab, seconds};
use crate::world::{HTTP, World};

#[test]
fn a_page_with_forty_pictures_comes_over_both_links() {
    in_lab("browser::a_page_with_forty_pictures_comes_over_both_links", || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("chromium").is_file()) {
            return println!("passed over: chromium is not installed");
        }
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        let profile = tempfile::tempdir().expect("a folder");
        let data = format!("--user-data-dir={}", profile.path().display());
        let url = format!("http://{}:{HTTP}/page/40", world.lab.web_addr_v4());
        let start = Instant::now();
        let args = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", data.as_str(), url.as_str()];
        let ended = world.start("chromium", &args).wait_end(seconds(60));
        println!("the browser was done after {:?}", start.elapsed());
        ended.assert_done();
        assert!(ended.stdout.contains("the end"), "{}", ended.stdout);
        let shares = world.shares();
        println!("requests over each link: {shares:?}");
        // It may ask for an icon too.
        assert!(shares.iter().sum::<usize>() >= 41, "{shares:?}");
        assert!(shares.iter().all(|count| *count > 0), "a browser opens six connections: {shares:?}");
    });
}
