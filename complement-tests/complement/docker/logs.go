package docker

import (
	"encoding/binary"
	"net/http"
	"os"
)

const (
	standardOutput = 1
	frameHeader    = 8
	frameMax       = 32 * 1024
)

// The log as the frames in which Docker carries the two output streams: a kind, three zeros, the length, the bytes.
func (engine *Engine) logs(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	container := engine.named(writer, request)
	engine.lock.Unlock()
	if container == nil {
		return
	}
	log, err := os.ReadFile(container.place.Log())
	if err != nil && !os.IsNotExist(err) {
		refuse(writer, http.StatusInternalServerError, "log: %s", err)
		return
	}
	writer.Header().Set("Content-Type", "application/vnd.docker.multiplexed-stream")
	for len(log) > 0 {
		part := log[:min(len(log), frameMax)]
		log = log[len(part):]
		header := make([]byte, frameHeader)
		header[0] = standardOutput
		binary.BigEndian.PutUint32(header[4:], uint32(len(part)))
		if _, err := writer.Write(append(header, part...)); err != nil {
			return
		}
	}
}
