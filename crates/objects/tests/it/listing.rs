//! Pages of keys, prefixes and delimiters.

use crate::world::*;
use keystead_objects::*;

async fn page(
    world: &World,
    prefix: &str,
    delimiter: &str,
    after: Option<&str>,
    max: usize,
) -> Listing {
    let query = ListQuery {
        prefix: prefix.into(),
        delimiter: (!delimiter.is_empty()).then(|| delimiter.into()),
        after: after.map(str::to_owned),
        max_keys: max,
    };
    world.store.list("one", query).await.expect("listed")
}

fn names(page: &Listing) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.key.as_str()).collect()
}

#[tokio::test]
async fn prefixes_delimiters_and_pages() {
    let world = World::new().await;
    for key in ["a", "b/1", "b/2", "b/c/3", "b0", "d/4", "é/5", "\u{10FFFF}/6"] {
        world.put("one", key, key.as_bytes()).await;
    }
    world.put("two", "a", b"").await;
    let all = page(&world, "", "", None, 1000).await;
    assert_eq!(names(&all), ["a", "b/1", "b/2", "b/c/3", "b0", "d/4", "é/5", "\u{10FFFF}/6"]);
    assert_eq!((all.entries[3].size, all.next), (5, None));
    let top = page(&world, "", "/", None, 1000).await;
    assert_eq!(names(&top), ["a", "b0"]);
    assert_eq!(top.common_prefixes, ["b/", "d/", "é/", "\u{10FFFF}/"]);
    let inner = page(&world, "b/", "/", None, 1000).await;
    assert_eq!(
        (names(&inner), inner.common_prefixes.clone()),
        (vec!["b/1", "b/2"], vec!["b/c/".to_owned()])
    );
    // In pages of each size, everything once and in order.
    for max in 1..=7 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let one = page(&world, "", "/", after.as_deref(), max).await;
            assert!(one.entries.len() + one.common_prefixes.len() <= max);
            seen.extend(names(&one).into_iter().map(str::to_owned));
            seen.extend(one.common_prefixes.clone());
            after = one.next.clone();
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, ["a", "b/", "b0", "d/", "é/", "\u{10FFFF}/"], "{max}");
    }
    assert_eq!(names(&page(&world, "", "", Some("b/2"), 2).await), ["b/c/3", "b0"]);
    assert_eq!(page(&world, "", "", None, 0).await, Listing::default());
    assert_eq!(page(&world, "zz", "", None, 5).await, Listing::default());
    assert_eq!(names(&page(&world, "b/", "", Some("a"), 1).await), ["b/1"]);
}

#[tokio::test]
async fn uploads_are_listed_by_key_and_time() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for key in ["k", "k", "b/1", "b/2"] {
        world.clock.pass(1);
        let begun = world.store.create_upload("one", key, UploadOptions::default()).await;
        ids.push(begun.expect("begun").upload_id);
    }
    let query = UploadQuery { max_uploads: 10, ..UploadQuery::default() };
    let all = world.store.list_uploads("one", query.clone()).await.expect("listed");
    let found: Vec<_> = all.uploads.iter().map(|one| one.upload_id.clone()).collect();
    assert_eq!(found, [ids[2].clone(), ids[3].clone(), ids[0].clone(), ids[1].clone()]);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let query = UploadQuery { after, max_uploads: 1, ..UploadQuery::default() };
        let one = world.store.list_uploads("one", query).await.expect("listed");
        seen.extend(one.uploads.into_iter().map(|one| one.upload_id));
        after = one.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, found);
    let query = UploadQuery { delimiter: Some("/".into()), ..query };
    let top = world.store.list_uploads("one", query).await.expect("listed");
    assert_eq!((top.uploads.len(), top.common_prefixes), (2, vec!["b/".to_owned()]));
    let after = Some(("k".to_owned(), None));
    let query = UploadQuery { after, max_uploads: 10, ..UploadQuery::default() };
    assert!(world.store.list_uploads("one", query).await.expect("listed").uploads.is_empty());
}
