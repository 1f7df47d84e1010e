//! What a reader finds in a web page.

use super::*;

fn markdown(html: &str) -> String {
    read_text(html, &Limits::default()).markdown.trim().to_string()
}

#[test]
fn the_text_of_a_page_is_read_and_what_stands_around_it_is_not() {
    let page = r##"<html lang="ru-RU"><head><title>Оплата | Магазин</title></head><body>
      <header class="site"><nav><ul><li><a href="/">Главная</a></li><li><a href="/b">Блог</a></li></ul></nav></header>
      <div class="layout with-sidebar"><aside>Новости недели</aside><div class="page-body">
      <h1>Оплата картой<a class="headerlink" href="#pay">¶</a></h1><p>Откройте <b>Настройки</b> и нажмите
      <a href="/pay">Оплатить</a>.</p><ul class="breadcrumbs"><li><a href="/x">x</a></li></ul>
      <ol><li>Первый шаг</li><li>Второй <code>pay --now</code></li></ol></div></div>
      <footer>© 2026 Магазин</footer></body></html>"##;
    let reading = read_text(page, &Limits::default());
    assert_eq!(
        reading.markdown.trim(),
        "# Оплата картой\n\nОткройте **Настройки** и нажмите [Оплатить](/pay).\n\n1. Первый шаг\n2. Второй `pay --now`"
    );
    assert_eq!(reading.title.as_deref(), Some("Оплата картой"));
    assert!(!reading.skipped.is_empty());
}

#[test]
fn a_listing_is_kept_byte_for_byte_without_its_line_numbers() {
    let page = r#"<main><p>Run this command in your terminal now:</p><div class="highlight-python"><table class="highlighttable"><tr>
      <td class="linenos"><pre>1
2</pre></td><td class="code"><pre><span class="k">if</span> a &lt; b:
    <span>print</span>("x")

</pre></td></tr></table></div>
      <pre class="prism"><code class="language-sh"><div class="line">a  -b</div><div class="line">c</div></code><button>Copy</button></pre></main>"#;
    assert_eq!(
        markdown(page),
        "Run this command in your terminal now:\n\n```python\nif a < b:\n    print(\"x\")\n\n```\n\n```sh\na  -b\nc\n```"
    );
}

#[test]
fn tables_images_and_nested_lists_keep_their_form() {
    let page = r#"<article><h2>Plans</h2><table><tr><th>Plan</th><th>Price</th></tr><tr><td>A|B</td><td><p>10 €</p></td></tr></table>
      <p><img src="shot.png" alt="The page"><img src="data:image/png;base64,AA"></p>
      <ul><li>one<ul><li>deep</li></ul></li><li><p>two</p><pre>x</pre></li></ul></article>"#;
    let expected = "## Plans\n\n| Plan | Price |\n|---|---|\n| A\\|B | 10 € |\n\n![The page](shot.png)\n\n\
                    - one\n  - deep\n- two\n\n  ```\n  x\n  ```";
    assert_eq!(markdown(page), expected);
}

#[test]
fn a_page_without_any_structure_is_read_whole() {
    assert_eq!(markdown("Hello <b>world</b><br>again &amp; again"), "Hello **world**\nagain & again");
    assert_eq!(markdown(""), "");
}

#[test]
fn a_page_nested_beyond_reason_is_still_read() {
    let page = format!("{}deep{}", "<div>".repeat(3000), "</div>".repeat(3000));
    assert_eq!(markdown(&page), "deep");
}

#[test]
fn other_encodings_are_read_by_what_the_page_says() {
    let (page, _, _) = encoding_rs::WINDOWS_1251.encode("<meta charset=windows-1251><p>Привет</p>");
    assert_eq!(read(&page, &Limits::default()).markdown.trim(), "Привет");
}
