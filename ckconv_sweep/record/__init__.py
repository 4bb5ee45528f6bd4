"""The study: what a sweep was asked, what its trials did, what became of them. The only place that
opens it, and the only truth about a sweep: everything else is made from it."""
