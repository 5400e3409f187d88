"""Reports in formats for people: text for a terminal, CSV, Markdown, HTML, a figure. Nothing here reads files."""
