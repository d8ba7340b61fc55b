"""One file per step; each goes from finished folders to one finished folder."""
