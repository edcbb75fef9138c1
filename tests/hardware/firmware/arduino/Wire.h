// In place of the Arduino core: what the sketch needs is in sketch.cpp.
