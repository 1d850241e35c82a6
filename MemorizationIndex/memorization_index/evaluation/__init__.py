"""What the method is measured with: augmentations of copies and controls, demo cohorts, protocols and peers."""
