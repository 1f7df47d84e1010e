"""The same page as a PDF of several programs, for scripts/check-documents: each lays out and writes letters in its own way.

Blocks are (kind, text) with the kinds h1 to h4, p and code; a producer with `box` paints a panel behind each listing.
"""
import html
import io
import json
import pathlib
import re
import subprocess
import tempfile

CSS = """@page {{ size: A4; margin: 18mm; @bottom-center {{ content: counter(page); font-size: 8pt }} }}
body {{ font: 10pt/1.5 'DejaVu Sans' }} h1 {{ font-size: 20pt }} h2 {{ font-size: 16pt }} h3 {{ font-size: 13pt }} h4 {{ font-size: 11.5pt }}
pre {{ font: 7pt/1.35 'DejaVu Sans Mono'; white-space: pre; {} }}"""


def reportlab(blocks, box):
    from reportlab.lib.colors import whitesmoke
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.platypus import Paragraph, Preformatted, SimpleDocTemplate, Spacer
    for name in ("Sans", "SansMono"):
        pdfmetrics.registerFont(TTFont(name, f"/usr/share/fonts/truetype/dejavu/DejaVu{name}.ttf"))
    sizes = {"h1": 22, "h2": 18, "h3": 15, "h4": 13, "p": 10}
    style = lambda size: ParagraphStyle("s", fontName="Sans", fontSize=size, leading=size * 1.25, spaceAfter=size * 0.8)
    painted = dict(backColor=whitesmoke, borderPadding=3) if box else {}
    mono = ParagraphStyle("m", fontName="SansMono", fontSize=6, leading=7.5, spaceAfter=8, **painted)
    out, flow = io.BytesIO(), []
    for kind, text in blocks:
        flow.append(Preformatted(text, mono) if kind == "code" else Paragraph(html.escape(text), style(sizes[kind])))
        flow.append(Spacer(1, 4))
    SimpleDocTemplate(out).build(flow)
    return out.getvalue()


def page(blocks, box):
    write = lambda kind, text: (f"<pre><code>{html.escape(text)}\n</code></pre>" if kind == "code"
                                else f"<{kind}>{html.escape(text)}</{kind}>")
    style = CSS.format("background: #f4f5f7; padding: 8px; border-radius: 4px" if box else "")
    body = "\n".join(write(*block) for block in blocks)
    return f"<!doctype html><html><head><meta charset=utf-8><title>Docs</title><style>{style}</style></head><body>{body}</body></html>"


def run(name, source, *command):
    """Writes `source` to a file `name` in a new folder, runs the command there, and gives its `a.pdf`."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / name).write_text(source)
        subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
        return (pathlib.Path(folder) / "a.pdf").read_bytes()


def chromium(blocks, box):
    return run("a.html", page(blocks, box), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=profile",
               "--print-to-pdf=a.pdf", "a.html")


def weasyprint(blocks, box):
    import weasyprint as program
    return program.HTML(string=page(blocks, box)).write_pdf()


def typst(blocks, box):
    import typst as program
    plain = lambda text: re.sub(r"""([\\#$*_`<>@\[\]"~/=+-])""", r"\\\1", text)
    out = ['#set page(paper: "a4", numbering: "1")\n#set text(font: "DejaVu Sans", size: 10pt)\n'
           '#show raw: set text(font: "DejaVu Sans Mono", size: 7pt)\n'
           "#show heading.where(level: 3): set text(size: 13pt)\n#show heading.where(level: 4): set text(size: 11.5pt)\n"]
    if box:
        out.append("#show raw.where(block: true): it => block(fill: luma(240), inset: 6pt, width: 100%, it)\n")
    for kind, text in blocks:
        if kind == "code":
            out.append(f"#raw({json.dumps(text, ensure_ascii=False)}, block: true)\n\n")
        else:
            out.append(("" if kind == "p" else "=" * int(kind[1]) + " ") + plain(text) + "\n\n")
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "a.typ"
        source.write_text("".join(out))
        return program.compile(str(source))


def latex(blocks, box):
    """`verbatim`, or with `box` the package `listings` on its own grid. Only what its fonts have."""
    special = {"\\": "\\textbackslash{}", "^": "\\^{}", "~": "\\~{}"} | {c: "\\" + c for c in "{}#$%&_"}
    plain = lambda text: "".join(special.get(c, c) for c in text if ord(c) < 0x500 or c in "—–«»")
    out = ["\\documentclass[a4paper,10pt]{article}\\usepackage[T2A,T1]{fontenc}\\usepackage[russian,english]{babel}"
           "\\usepackage{textcomp,upquote,listings,xcolor,cmap}\\usepackage[margin=18mm]{geometry}"
           "\\lstset{basicstyle=\\ttfamily\\scriptsize,keepspaces=true,upquote=true,showstringspaces=false,"
           "backgroundcolor=\\color{gray!10}}\\begin{document}\n"]
    commands = {"h1": "section*", "h2": "subsection*", "h3": "subsubsection*", "h4": "subsubsection*"}
    for kind, text in blocks:
        if kind == "code":
            name = "lstlisting" if box else "verbatim"
            out.append(f"{{\\scriptsize\\begin{{{name}}}\n{text}\n\\end{{{name}}}\n}}\n\n")
        else:
            out.append((plain(text) if kind == "p" else f"\\{commands[kind]}{{{plain(text)}}}") + "\n\n")
    return run("a.tex", "".join(out) + "\\end{document}\n", "pdflatex", "-interaction=nonstopmode", "a.tex")


def fits(program, text):
    """True where a PDF of this program can hold a listing byte for byte: no blanks at the ends of lines, no empty lines
    around it, no line that is cut or wrapped, letters that its fonts have."""
    lines = text.split("\n")
    letters = 0x80 if program == "latex" else 0x2300
    return all(line == line.rstrip() and len(line) <= 110 for line in lines) and text == text.strip("\n") and all(
        ord(c) < letters for c in text)


PROGRAMS = dict(reportlab=reportlab, chromium=chromium, weasyprint=weasyprint, typst=typst, latex=latex)
