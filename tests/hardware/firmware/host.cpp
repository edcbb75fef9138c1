// The firmware's protocol as a C library, for ctypes.

#include "facetwin_protocol.h"

typedef facetwin::Protocol<2> Controller;

extern "C" {
void* controller_new(int crc, int watchdog_ms) { return new Controller(crc != 0, watchdog_ms); }
void controller_delete(void* c) { delete static_cast<Controller*>(c); }
void controller_receive(void* c, const uint8_t* data, size_t size, uint32_t now_ms) {
    for (size_t i = 0; i < size; i++) static_cast<Controller*>(c)->receive(data[i], now_ms);
}
size_t controller_answer(void* c, uint8_t* out, size_t room) {
    return static_cast<Controller*>(c)->answer(out, room);
}
void controller_tick(void* c) { static_cast<Controller*>(c)->tick(); }
int controller_watch(void* c, uint32_t now_ms) { return static_cast<Controller*>(c)->watch(now_ms); }
int controller_counts(void* c, int board, int channel, uint32_t period_us) {
    return static_cast<Controller*>(c)->counts(board, channel, period_us);
}
int controller_target(void* c, int board, int channel) {
    return static_cast<Controller*>(c)->boards[board].channels[channel].target;
}
int controller_position(void* c, int board, int channel) {
    return static_cast<Controller*>(c)->boards[board].channels[channel].position();
}
int controller_errors(void* c, int board) { return static_cast<Controller*>(c)->boards[board].errors; }
void controller_raise(void* c, int board, int error) { static_cast<Controller*>(c)->boards[board].errors |= error; }
}
