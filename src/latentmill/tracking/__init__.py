"""What can be watched while a sweep runs, and what other tools keep of it: live samples, TensorBoard, MLflow."""
