"""Running a study: the driver, the trial manager, the trials on Ray Tune."""
