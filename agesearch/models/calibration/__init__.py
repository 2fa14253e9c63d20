"""What is learnt from few labels after a training and then holds: corrected ages, honest intervals."""
