"""Ray for control: which machines run what. One module imports Ray, and no process that serves imports that one."""
