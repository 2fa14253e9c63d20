"""What turns a backbone's features into a probability mass over the ages 0..100."""
