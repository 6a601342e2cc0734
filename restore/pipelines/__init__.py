"""Jobs from file to file: reading, solving, writing and recording. Above `restore.solve`, below the verbs."""
