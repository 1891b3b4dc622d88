package docker

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
)

var labelInstruction = regexp.MustCompile(`(?s)^LABEL "(.*?)"="(.*)"$`)

// Keeps what a container has stored, and its labels, as an image.
func (engine *Engine) commit(writer http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	engine.lock.Lock()
	defer engine.lock.Unlock()
	container := engine.containerNamed(query.Get("container"))
	if container == nil {
		refuse(writer, http.StatusNotFound, "no such container")
		return
	}
	labels := map[string]string{}
	for key, value := range container.labels {
		labels[key] = value
	}
	for _, change := range query["changes"] {
		if parts := labelInstruction.FindStringSubmatch(change); parts != nil {
			labels[parts[1]] = parts[2]
		}
	}
	id := newID()
	created := &image{
		id:     "sha256:" + id,
		tag:    fmt.Sprintf("%s:%s", query.Get("repo"), query.Get("tag")),
		kind:   container.kind,
		folder: engine.path("images", id),
		labels: labels,
	}
	if err := copyFolder(created.folder, container.place.Data()); err != nil {
		refuse(writer, http.StatusInternalServerError, "commit: %s", err)
		return
	}
	engine.images[created.id] = created
	reply(writer, http.StatusCreated, map[string]string{"Id": created.id})
}

func (engine *Engine) listImages(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	defer engine.lock.Unlock()
	list := []map[string]any{}
	for _, image := range engine.images {
		match, err := matches(request, image.labels)
		if err != nil {
			refuse(writer, http.StatusBadRequest, "filters: %s", err)
			return
		}
		if match {
			list = append(list, map[string]any{"Id": image.id, "Labels": image.labels, "RepoTags": []string{image.tag}})
		}
	}
	reply(writer, http.StatusOK, list)
}

func (engine *Engine) removeImage(writer http.ResponseWriter, request *http.Request) {
	engine.lock.Lock()
	defer engine.lock.Unlock()
	id := request.PathValue("id")
	image := engine.images[id]
	if image == nil {
		refuse(writer, http.StatusNotFound, "no such image")
		return
	}
	delete(engine.images, id)
	_ = os.RemoveAll(image.folder)
	reply(writer, http.StatusOK, []map[string]string{{"Deleted": id}})
}

// A committed image by its id, or a base image by its name.
func (engine *Engine) imageNamed(name string) *image {
	for _, image := range engine.images {
		if image.id == name || strings.TrimPrefix(image.id, "sha256:") == name {
			return image
		}
	}
	if _, known := engine.kinds[name]; known {
		return &image{kind: name}
	}
	return nil
}
