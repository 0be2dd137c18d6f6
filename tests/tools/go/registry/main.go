// A container registry: `registry ADDRESS FOLDER`. Blobs stay in the folder, manifests are forgotten when it ends.
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	blobs := registry.NewDiskBlobHandler(os.Args[2])
	log.Fatal(http.ListenAndServe(os.Args[1], registry.New(registry.WithBlobHandler(blobs))))
}
