"""Reports as people read them: text for a terminal, CSV, Markdown, a page, a figure. No files are read here."""
