#!/bin/sh
# Stands for anything that brings data in.
echo "fetched the data of ${2:-today}"
