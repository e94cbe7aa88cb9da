"""What a run has done, as one page: records to data, pictures, HTML.

Pure but for the drawing, which takes matplotlib. Nothing that is read is
believed: a work dir may come from a stranger.
"""
